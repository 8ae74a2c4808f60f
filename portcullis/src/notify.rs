//! The die chain: who is told before a fatal exception is acted on (debuggers, crash dumps, probes).
//!
//! A notifier may read data that a grace period protects, so the chain asserts that the context is KERNEL, which
//! means that quiescence is over, before any notifier runs.

use crate::host::Tracking;
use crate::kernel::{Broken, Kernel};

pub use crate::kernel::{Die, Notifier, Verdict};

/// Asks the members of [`Kernel::DIE_CHAIN`] in their order, until one has handled it.
///
/// Interrupts on or off; the context must be KERNEL.
pub fn notify_die<K: Kernel>(regs: &mut K::Regs, die: Die) -> Verdict {
    if !K::Context::in_kernel() {
        K::invariant_broken(Broken::NotifierOutsideKernel);
        return Verdict::Pass;
    }
    for notifier in K::DIE_CHAIN {
        if notifier(regs, die) == Verdict::Handled {
            return Verdict::Handled;
        }
    }
    Verdict::Pass
}
