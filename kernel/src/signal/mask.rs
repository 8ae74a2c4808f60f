//! The signal mask, and the pair of calls with which `ppoll` and its like set another one for their duration.

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::signal::job;
use crate::task::current;
use crate::task::signals::set::SigSet;
use crate::task::tree;

/// Sets the current task's mask. What no one can block stays unblocked.
pub fn set_blocked(mask: SigSet) {
    let task = current();
    let left = {
        let shared = task.process.signals.lock();
        let mut signals = task.signals.lock();
        let mask = mask.without(SigSet::UNBLOCKABLE);
        let newly_blocked = mask.without(signals.blocked);
        signals.blocked = mask;
        signals.recalculate(task, &shared);
        shared.pending.set().intersection(newly_blocked)
    };
    // This task may have been on its way to take these for the process.
    if !left.is_empty() {
        let tree = tree::tree();
        if let Some(node) = tree.node(task.process.pid)
            && node.threads.len() > 1
        {
            job::retarget(node, &task.process.signals.lock(), task, left);
        }
    }
}

/// Sets another mask until the call has ended. If a signal interrupts it, its handler runs with this mask, and the old
/// one comes back when the handler returns; see [`end_temporary`].
pub fn set_temporary(mask: SigSet) {
    {
        let mut signals = current().signals.lock();
        signals.saved = Some(signals.blocked);
    }
    set_blocked(mask);
}

/// Ends what [`set_temporary`] began. `interrupted`: the call comes back because a signal is pending, which then puts the
/// old mask back at its delivery.
pub fn end_temporary(interrupted: bool) {
    if !interrupted || !current().signal_pending() {
        restore_saved();
    }
}

/// Puts the mask back that a call has saved, if one has.
#[inline]
pub fn restore_saved() {
    let saved = current().signals.lock().saved.take();
    if let Some(mask) = saved {
        set_blocked(mask);
    }
}

/// Runs `call` with the signal mask at `address` (0: the current one). ERESTARTNOHAND if a signal ended it.
pub fn with_mask(address: u64, size: u64, call: impl FnOnce() -> Result<usize>) -> Result<usize> {
    if address == 0 {
        return call().map_err(no_restart_with_handler);
    }
    if size != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL);
    }
    set_temporary(user::read(address)?);
    let result = call().map_err(no_restart_with_handler);
    end_temporary(result == Err(Errno::ERESTARTNOHAND));
    result
}

/// A call that a handler interrupts is not begun again.
pub fn no_restart_with_handler(error: Errno) -> Errno {
    if error == Errno::ERESTARTSYS { Errno::ERESTARTNOHAND } else { error }
}
