//! The die chain: who is told before a fatal exception is acted on (debuggers, crash dumps, probes).

use crate::broken::Broken;
use crate::kernel::Diagnostics;
use crate::machine::Tracking;

pub use crate::kernel::{Die, Notifier, Verdict};

/// Asks the members of [`Diagnostics::DIE_CHAIN`] in order, until one has handled the exception.
///
/// Interrupts on or off, context KERNEL, as a member may read what a grace period protects. In another context none is asked,
/// and the result is [`Verdict::Pass`].
pub fn notify_die<K: Diagnostics>(regs: &mut K::Regs, die: Die) -> Verdict {
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
