//! What tasks and processes keep for signals, and what a signal is.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | change what is kept, and what clone and exec make of it | [`state`], [`pending`], [`action`] |
//! | see what a signal carries | [`info`]; numbers and sets [`set`] |
//! | change how much is queued | [`quota`] |

pub mod action;
pub mod altstack;
pub mod info;
pub mod pending;
pub mod quota;
pub mod set;
pub mod state;
pub mod trap;

use self::set::SIGKILL;
use crate::task::Task;

/// Whether a task is to end: what interrupts sleeps that no other signal does.
pub fn fatal_pending(task: &Task) -> bool {
    task.signal_pending() && (task.process.group_exit().is_some() || task.signals.lock().pending().contains(SIGKILL))
}

/// Raises the flag of a task that has not run yet, if something is pending for it or its process.
pub fn recalc_sigpending(task: &Task) {
    let shared = task.process.signals.lock();
    task.signals.lock().recalculate(task, &shared);
}
