//! Signals.
//!
//! A signal is sent ([`send`]), waits as pending, and is delivered by its receiver on the way to user mode
//! ([`delivery`](crate::work::signal_delivery), called by the library's exit work while SIGPENDING is raised).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | send a signal from elsewhere in the kernel | [`send`]; for a fault of the current task [`force_fault`] |
//! | see what `siginfo_t` is to 32-bit programs | [`info32`] |
//! | see what a handler finds on its stack, and `rt_sigreturn` | [`frame`](crate::work::signal_frame64), [`frame32`](crate::work::signal_frame32), [`fpstate`](crate::work::signal_fpstate), [`altstack`] |
//! | change which signal an exception becomes | [`exception`] |
//! | change how a signal chooses its thread, or wakes it | [`send`] |
//! | change stopping, continuing, SIGCHLD, terminal rules | [`job`] |
//! | change what is kept, and what clone and exec make of it | [`state`], [`pending`], [`action`] |
//! | change who may signal whom, and how much is queued | [`permission`], [`quota`] |
//! | change a system call | [`calls`](crate::calls::signal), [`signalfd`] |
//!
//! **Locks.** Process tree → `Process::signals` → one `Task::signals` → `SigHand` → wait queues → run queue. Everyone who
//! sends holds `Process::signals`; so does a task when it decides that nothing is pending. That is why taking the flag
//! down can lose nothing.

pub mod action;
pub mod altstack;
pub mod exception;
pub mod info;
pub mod info32;
pub mod job;
pub mod mask;
pub mod pending;
pub mod permission;
pub mod quota;
pub mod send;
pub mod set;
pub mod signalfd;
pub mod state;

pub use crate::work::signal_delivery::do_signal_or_restart;
pub use crate::work::signal_frame64::min_stack_size;
pub use action::{Action, ActionFlags, SigHand};
pub use exception::{force_exception, force_fatal, force_fault, force_page_fault};
pub use info::SigInfo;
pub use job::{check_terminal, exit_thread, session_leader_exits};
pub use set::*;
pub use state::{ProcessSignals, TaskSignals};

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
