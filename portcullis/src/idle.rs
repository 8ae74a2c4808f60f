//! The idle loop, in which a CPU is quiescent.

use crate::broken::Broken;
use crate::machine::{Machine, Tracking};

/// Waits in the context IDLE: `wait` is the hardware's wait (STI; HLT), entered and left with interrupts off.
///
/// An interrupt that ends the wait moves the context to KERNEL and back by itself ([`Interrupted`](crate::Interrupted)).
///
/// # Safety
/// Called by the idle task, interrupts off, context KERNEL, holding nothing that a grace period protects: the CPU counts as
/// quiescent while `wait` runs.
#[inline(always)]
pub unsafe fn idle<K: Machine>(wait: impl FnOnce()) {
    // SAFETY: the caller's.
    if !unsafe { K::Context::kernel_to_idle() } {
        K::invariant_broken(Broken::IdleFromWrongContext);
    }
    wait();
    // SAFETY: the caller's.
    if !unsafe { K::Context::idle_to_kernel() } {
        K::invariant_broken(Broken::IdleFromWrongContext);
    }
}
