//! The idle loop's side of context tracking.

use crate::host::Tracking;
use crate::kernel::{Broken, Kernel};

/// Waits in the context IDLE: `wait` is the hardware's wait (STI; HLT), entered and left with interrupts off.
///
/// An interrupt that ends the wait moves the context to KERNEL and back by itself ([`Interrupted`](crate::Interrupted)).
///
/// Called by the idle task with interrupts off.
#[inline(always)]
pub fn idle<K: Kernel>(wait: impl FnOnce()) {
    if !K::Context::kernel_to_idle() {
        K::invariant_broken(Broken::IdleFromWrongContext);
    }
    wait();
    if !K::Context::idle_to_kernel() {
        K::invariant_broken(Broken::IdleFromWrongContext);
    }
}
