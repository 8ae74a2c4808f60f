//! Task work: what others want a task to do itself, before it goes back to user mode.
//!
//! With [`Notify::Resume`] it is done when the task goes there anyway; with [`Notify::Signal`] a sleep that a signal would
//! interrupt ends for it, and the system call is made again.

use portcullis::work::ExitWork;

use crate::sched::scheduler;
use crate::sched::state;
use crate::task::hooks::Work;
use crate::task::{Task, current};
use crate::work::hooks;

/// When the work is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notify {
    /// On the next way to user mode.
    Resume,
    /// As soon as can be: interruptible sleeps end.
    Signal,
}

/// Queues work for a task. Work that is queued when a task ends is done then; a task that has ended does none.
pub fn add(task: &Task, work: Work, notify: Notify) {
    task.hooks.work.0.lock().push_back(work);
    match notify {
        Notify::Resume => task.raise(ExitWork::NOTIFY_RESUME),
        Notify::Signal => interrupt(task),
    }
}

/// Ends a task's interruptible sleep, and lets it come by the hooks, without a signal.
pub fn interrupt(task: &Task) {
    task.raise(ExitWork::NOTIFY_SIGNAL);
    scheduler::wake_state(task, state::INTERRUPTIBLE);
}

/// The hook of NOTIFY_SIGNAL, which comes together with that of signals.
pub fn notify_signal() {
    if current().work.is_raised(ExitWork::NOTIFY_SIGNAL) {
        hooks::exit_work(hooks::Hook::QueuedWork, ExitWork::NOTIFY_SIGNAL, run);
    }
}

/// Does all work that is queued for the current task: the hook of NOTIFY_RESUME.
pub fn run() {
    loop {
        // Not under the lock.
        let next = current().hooks.work.0.lock().pop_front();
        match next {
            Some(work) => work(),
            None => break,
        }
    }
}
