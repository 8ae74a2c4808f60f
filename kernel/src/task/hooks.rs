//! What a task keeps for the hooks of the gate, whose consumers are in [`work`](crate::work).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::machine::sync::SpinLock;
use crate::task::rseq::TaskRseq;
use crate::task::seccomp::TaskSeccomp;
use crate::task::user_dispatch::UserDispatch;

/// The task's part of each.
pub struct Hooks {
    /// Restartable sequences.
    pub rseq: TaskRseq,
    /// Its filters.
    pub seccomp: TaskSeccomp,
    /// Syscall user dispatch.
    pub syscall_dispatch: UserDispatch,
    /// The audit record of the call under way.
    pub audit: TaskAudit,
    /// Which code it runs.
    pub patch: TaskPatch,
    /// The probe that it was stopped at.
    pub probe: TaskProbe,
    /// Work that others have queued for it.
    pub work: Queue,
}

impl Hooks {
    /// Nothing armed.
    pub fn new() -> Self {
        Hooks {
            rseq: TaskRseq::default(),
            seccomp: TaskSeccomp::new(),
            syscall_dispatch: UserDispatch::default(),
            audit: TaskAudit::default(),
            patch: TaskPatch::default(),
            probe: TaskProbe::default(),
            work: Queue::new(),
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self::new()
    }
}

/// The call under way, if its beginning was recorded.
#[derive(Default)]
pub struct TaskAudit {
    pub serial: AtomicU64,
    /// Architecture, number: those of the beginning.
    pub call: AtomicU64,
}

/// Which code a task runs.
#[derive(Default)]
pub struct TaskPatch(pub AtomicU32);

/// For probes.
#[derive(Default)]
pub struct TaskProbe {
    /// The probe's address while the instruction is being run in its place.
    pub stepping: AtomicU64,
    /// The program had set the trap flag itself.
    pub trap_flag: AtomicU64,
}

/// One piece of work. Runs in the task, with interrupts on; may sleep.
pub type Work = Box<dyn FnOnce() + Send>;

/// A task's queue.
pub struct Queue(pub SpinLock<VecDeque<Work>>);

impl Queue {
    /// Empty.
    pub const fn new() -> Self {
        Queue(SpinLock::new(VecDeque::new()))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}
