//! The die chain: who is told before a fatal exception is acted on (debuggers, crash dumps, probes).
//!
//! A notifier may read data that a grace period protects, so the chain asserts that the context is KERNEL, which
//! means that quiescence is over, before any notifier runs.

use crate::host::Tracking;
use crate::kernel::{Broken, Kernel};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Die {
    /// The exception's vector.
    pub vector: u8,
    /// Its error code, 0 if it has none.
    pub error: u64,
}

/// What a notifier says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not mine; ask the next one.
    Pass,
    /// Handled: nobody else is asked and the exception is not acted on.
    Handled,
}

/// A member of the chain.
pub type Notifier<R> = fn(&mut R, Die) -> Verdict;

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
