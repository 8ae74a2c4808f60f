//! What tasks and processes keep for signals, and what becomes of it at clone, exec and exit.

use super::altstack::AltStack;
use super::exception::Fault;
use super::pending::Pending;
use super::set::SigSet;
use portcullis::work::ExitWork;

use crate::task::Task;

/// The signals of one thread. Other threads look at it under the lock that it is in.
pub struct TaskSignals {
    /// What is not delivered for now. Change it through [`mask`](super::mask).
    pub(super) blocked: SigSet,
    /// The mask to go back to at the next delivery, where a call has set another one for its duration (`sigsuspend`,
    /// `ppoll`).
    pub(super) saved: Option<SigSet>,
    /// Blocked signals that `sigtimedwait` has let through for the time it sleeps: they are waited for, so they count
    /// neither as ignored nor as fatal.
    pub(super) awaited: SigSet,
    pub(super) pending: Pending,
    /// The alternate stack.
    pub(super) altstack: AltStack,
    /// The last exception, for the frame.
    pub(super) fault: Fault,
    pub(super) stop: Stop,
    /// The thread is ending and takes no more signals.
    pub(super) exiting: bool,
}

/// A thread's part in a group stop.
#[derive(Clone, Copy, Default)]
pub(super) struct Stop {
    /// It shall stop.
    pub pending: bool,
    /// When it does, that counts.
    pub counts: bool,
    /// It has taken a stop signal; SIGCONT takes this back.
    pub dequeued: bool,
    /// It has stopped.
    pub stopped: bool,
}

impl TaskSignals {
    /// Nothing blocked, nothing pending.
    pub fn new() -> TaskSignals {
        TaskSignals {
            blocked: SigSet::EMPTY,
            saved: None,
            awaited: SigSet::EMPTY,
            pending: Pending::new(),
            altstack: AltStack::default(),
            fault: Fault::default(),
            stop: Stop::default(),
            exiting: false,
        }
    }

    /// For a new task. It inherits the mask, and the alternate stack unless it shares memory with a parent that goes on
    /// running (`CLONE_VM` without `CLONE_VFORK`): two tasks cannot use one stack.
    pub fn fork(&self, keep_altstack: bool) -> TaskSignals {
        TaskSignals {
            blocked: self.blocked,
            altstack: if keep_altstack {
                self.altstack
            } else {
                AltStack::NONE
            },
            fault: self.fault,
            ..TaskSignals::new()
        }
    }

    /// For `exec`: the alternate stack is gone with the memory.
    pub fn reset_for_exec(&mut self) {
        self.altstack.sp = 0;
        self.altstack.size = 0;
    }

    /// The mask.
    pub fn blocked(&self) -> SigSet {
        self.blocked
    }

    /// What is pending for this thread alone.
    pub fn pending(&self) -> SigSet {
        self.pending.set()
    }

    /// What the thread would have to deliver, itself or for its process.
    pub(super) fn deliverable(&self, shared: &ProcessSignals) -> SigSet {
        self.pending
            .set()
            .union(shared.pending.set())
            .without(self.blocked)
    }

    /// Raises or takes down the flag of the current task as its signals demand. The caller holds both locks, and every
    /// sender holds at least the process's, so nothing can come in between.
    ///
    /// Only the task itself takes its flag down, and never between an interrupted call and its restart.
    pub(super) fn recalculate(&self, task: &Task, shared: &ProcessSignals) {
        if self.stop.pending || !self.deliverable(shared).is_empty() {
            super::send::raise(task);
        } else {
            task.work.take(ExitWork::SIGPENDING);
        }
    }
}

impl Default for TaskSignals {
    fn default() -> Self {
        TaskSignals::new()
    }
}

/// The signals of a process, and its job-control state. Its lock is taken before any thread's, by everyone who sends.
pub struct ProcessSignals {
    pub(super) pending: Pending,
    /// How many threads have yet to stop.
    pub(super) stop_count: u32,
    /// All threads have stopped.
    pub(super) stopped: bool,
    /// It went on after a stop.
    pub(super) continued: bool,
    /// The signal that stopped it, until a wait has taken it.
    pub(super) stop_signal: i32,
    /// Which thread got the last signal, so that they take turns.
    pub(super) turn: usize,
}

impl ProcessSignals {
    /// Nothing pending.
    pub fn new() -> ProcessSignals {
        ProcessSignals {
            pending: Pending::new(),
            stop_count: 0,
            stopped: false,
            continued: false,
            stop_signal: 0,
            turn: 0,
        }
    }

    /// What is pending for the process as a whole.
    pub fn pending(&self) -> SigSet {
        self.pending.set()
    }

    /// Whether all its threads are stopped by job control.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The signal that stopped the process, if it is stopped and no wait has reported it. `consume`: this wait does; else
    /// the next one may (WNOWAIT).
    pub fn take_stop_report(&mut self, consume: bool) -> Option<i32> {
        if !self.stopped || self.stop_signal == 0 {
            return None;
        }
        let signo = self.stop_signal;
        if consume {
            self.stop_signal = 0;
        }
        Some(signo)
    }

    /// Whether the process went on and no wait has reported it. `consume` as above.
    pub fn take_continue_report(&mut self, consume: bool) -> bool {
        let continued = self.continued;
        if consume {
            self.continued = false;
        }
        continued
    }
}

impl Default for ProcessSignals {
    fn default() -> Self {
        ProcessSignals::new()
    }
}
