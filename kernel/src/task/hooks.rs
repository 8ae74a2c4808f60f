//! What a task keeps for the hooks of the gate, whose consumers are in [`work`](crate::work).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::machine::sync::SpinLock;
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

/// For restartable sequences.
#[derive(Default)]
pub struct TaskRseq {
    /// The address of the area; 0 while there is none.
    pub area: AtomicU64,
    /// What stands before each abort handler, so that no other address can be made one.
    pub signature: AtomicU32,
    pub events: AtomicU32,
    /// The hook after the loop met memory that is not mapped.
    pub needs_faults: AtomicBool,
}

impl TaskRseq {
    /// The area's address, 0 while there is none, and the signature: for tracers.
    pub fn registration(&self) -> (u64, u32) {
        (self.area.load(Relaxed), self.signature.load(Relaxed))
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
