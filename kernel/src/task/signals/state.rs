//! What tasks and processes keep for signals, and what becomes of it at clone, exec and exit.

use alloc::sync::Arc;

use portcullis::work::ExitWork;

use crate::sched::thread::Thread;
use crate::sched::wait::WaitQueue;
use crate::task::signals::altstack::AltStack;
use crate::task::signals::info::SigInfo;
use crate::task::signals::pending::Pending;
use crate::task::signals::quota::User;
use crate::task::signals::set::SigSet;
use crate::task::signals::trap::Trap;

/// What the last exception of a task left for the signal frame: `trapno`, `err` and `cr2` of `sigcontext`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fault {
    /// Vector.
    pub trapno: u64,
    /// Error code.
    pub error: u64,
    /// The address of the last page fault.
    pub cr2: u64,
}

/// The signals of one thread. Other threads look at it under the lock that it is in.
pub struct TaskSignals {
    /// What is not delivered for now. Change it through [`mask`](crate::signal::mask).
    pub blocked: SigSet,
    /// The mask to go back to at the next delivery, where a call has set another one for its duration (`sigsuspend`,
    /// `ppoll`).
    pub saved: Option<SigSet>,
    /// Blocked signals that `sigtimedwait` has let through for the time it sleeps: they are waited for, so they count
    /// neither as ignored nor as fatal.
    pub awaited: SigSet,
    pub pending: Pending,
    /// The alternate stack.
    pub altstack: AltStack,
    /// The last exception, for the frame.
    pub fault: Fault,
    pub(crate) stop: Stop,
    /// Its stops for a tracer.
    pub(crate) trap: Trap,
    /// Signals that end the task and that no tracer sees ([`send::force_exit`](crate::signal::send::force_exit)).
    pub immutable: SigSet,
    /// The thread is ending and takes no more signals.
    pub exiting: bool,
}

/// A thread's part in a group stop.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stop {
    /// It shall stop.
    pub pending: bool,
    /// When it does, that counts.
    pub counts: bool,
    /// It has taken a stop signal; SIGCONT takes this back.
    pub dequeued: bool,
    /// It has stopped.
    pub stopped: bool,
    /// The signal of the last group stop.
    pub signo: i32,
}

impl Stop {
    /// There is nothing left to stop for.
    pub fn clear(&mut self) {
        self.pending = false;
        self.counts = false;
        self.dequeued = false;
    }
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
            trap: Trap::default(),
            immutable: SigSet::EMPTY,
            exiting: false,
        }
    }

    /// For a new task. It inherits the mask, and the alternate stack unless it shares memory with a parent that goes on
    /// running (`CLONE_VM` without `CLONE_VFORK`): two tasks cannot use one stack.
    pub fn fork(&self, keep_altstack: bool) -> TaskSignals {
        TaskSignals {
            blocked: self.blocked,
            altstack: if keep_altstack { self.altstack } else { AltStack::NONE },
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

    /// Whether the thread is ending.
    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting
    }

    /// Whether SIGKILL is pending for the thread.
    pub(crate) fn is_killed(&self) -> bool {
        self.pending.set().contains(crate::task::signals::set::SIGKILL)
    }

    /// Whether the thread may still be told to stop.
    pub(crate) fn may_trap(&self) -> bool {
        !self.exiting && !self.is_killed()
    }

    /// The thread has stopped for its tracer, or will not: who waits for that, there, goes on.
    pub(crate) fn end_trapping(&mut self, waits: &WaitQueue) {
        if core::mem::take(&mut self.trap.trapping) {
            waits.wake_all();
        }
    }

    /// Adds a signal without information.
    pub(crate) fn add_lost(&mut self, signo: i32) {
        self.pending.add_lost(signo);
    }

    /// What is queued for this thread alone, in order.
    pub(crate) fn queued(&self, index: usize) -> Option<SigInfo> {
        self.pending.queued(index)
    }

    /// The mask that a tracer sees: the one to go back to, where a call has set another.
    pub(crate) fn mask_of_tracee(&self) -> SigSet {
        self.saved.unwrap_or(self.blocked)
    }

    /// Sets the mask of a stopped tracee. It looks at its signals again when it goes on.
    pub(crate) fn set_mask_of_tracee(&mut self, mask: SigSet) {
        self.blocked = mask.without(SigSet::UNBLOCKABLE);
        self.saved = None;
    }

    /// Whether the thread has something to look at before it goes back to user mode.
    pub(crate) fn is_owed(&self, shared: &ProcessSignals) -> bool {
        self.stop.pending || self.trap.is_pending() || !self.deliverable(shared).is_empty()
    }

    /// What the thread would have to deliver, itself or for its process.
    pub fn deliverable(&self, shared: &ProcessSignals) -> SigSet {
        self.pending.set().union(shared.pending.set()).without(self.blocked)
    }

    /// Raises or takes down the flag of the current task, or of a new one, as its signals demand. The caller holds both locks,
    /// and every sender holds at least the process's, so nothing can come in between.
    ///
    /// Only the task itself takes its flag down, and never between an interrupted call and its restart.
    pub fn recalculate(&self, task: &Thread, shared: &ProcessSignals) {
        if self.is_owed(shared) {
            task.raise_for_current(ExitWork::SIGPENDING);
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
    pub pending: Pending,
    /// Whose limit what is queued here, and for the threads, counts against: the real user's.
    pub user: Arc<User>,
    /// How many threads have yet to stop.
    pub(crate) stop_count: u32,
    /// All threads have stopped.
    pub stopped: bool,
    /// It went on after a stop.
    pub continued: bool,
    /// The signal that stopped it, until a wait has taken it.
    pub stop_signal: i32,
    /// Which thread got the last signal, so that they take turns.
    pub turn: usize,
}

impl ProcessSignals {
    /// Nothing pending, for a process of this user.
    pub fn new(user: Arc<User>) -> ProcessSignals {
        ProcessSignals {
            pending: Pending::new(),
            user,
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

    /// What is queued for the process, in order.
    pub(crate) fn queued(&self, index: usize) -> Option<SigInfo> {
        self.pending.queued(index)
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

#[cfg(test)]
mod tests;
