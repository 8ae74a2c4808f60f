//! What a task keeps for tracing, as tracee and as tracer.

pub mod debug_registers;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::*};

use crate::machine::sync::SpinLock;
use crate::sched::wait::WaitQueue;
use crate::task::trace_state::debug_registers::DebugRegisters;
use crate::task::wait_status::WaitStatus;

/// What a tracer may be told of. The numbers are the ABI's (`PTRACE_EVENT_*`); bit n of the options asks for event n.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the events by their names")]
pub enum Event {
    Fork = 1,
    Vfork = 2,
    Clone = 3,
    Exec = 4,
    VforkDone = 5,
    Exit = 6,
    #[allow(dead_code, reason = "for seccomp, which asks the tracer so")]
    Seccomp = 7,
}

/// `PTRACE_EVENT_STOP`: what a seized task's stops that are no signal's are marked with.
pub const EVENT_STOP: i32 = 128;

/// `PTRACE_O_TRACESYSGOOD`: system-call stops show as SIGTRAP | 0x80.
pub const TRACESYSGOOD: u32 = 1;
/// `PTRACE_O_EXITKILL`: the tracee ends with its tracer.
pub const EXITKILL: u32 = 1 << 20;
/// `PTRACE_O_SUSPEND_SECCOMP`: filters do not run. Needs a kernel made for checkpoints; refused here, as by most.
pub const SUSPEND_SECCOMP: u32 = 1 << 21;
/// The options there are.
pub const OPTIONS: u32 = 0xff | EXITKILL | SUSPEND_SECCOMP;

/// In [`Trace::flags`] beside the options: it is traced.
pub const TRACED: u32 = 1 << 30;
/// Attached by PTRACE_SEIZE.
pub const SEIZED: u32 = 1 << 31;
/// Whoever began it might trace any process of its user namespace: exec may give the tracee new rights.
pub const PRIVILEGED: u32 = 1 << 29;

/// The tracer steps.
pub const STEPPING: u32 = 1;
/// TF is set because of that, and not by the program.
pub const FORCED: u32 = 2;

/// How a task is stepped. Changed by the task itself, and by its tracer while it is stopped.
#[derive(Default)]
pub struct StepFlags(AtomicU32);

impl StepFlags {
    /// Whether it is set.
    pub fn has(&self, flag: u32) -> bool {
        self.0.load(Relaxed) & flag != 0
    }

    /// Sets it.
    pub fn set(&self, flag: u32) {
        self.0.fetch_or(flag, Relaxed);
    }

    /// Clears it. Whether it was set.
    pub fn clear(&self, flag: u32) -> bool {
        self.0.fetch_and(!flag, Relaxed) & flag != 0
    }

    /// TF is the program's from now on.
    pub fn not_forced(&self) {
        self.clear(FORCED);
    }

    /// Whether TF is the tracer's.
    pub fn is_forced(&self) -> bool {
        self.has(FORCED)
    }
}

/// The part in tracing of a task, which is a `T`.
pub struct Trace<T> {
    /// Options, [`TRACED`], [`SEIZED`]. Written with the tree and the process's signals locked, or by the tracer while the
    /// task is stopped; 0 while nobody traces it.
    pub(crate) flags: AtomicU32,
    /// Who traces whom. Changed with the tree locked; two tasks' links are locked together only with the tree locked, too.
    pub(crate) links: SpinLock<Links<T>>,
    /// Woken when the tracee has come from a group stop to its tracer's ([`Trap::trapping`](crate::task::signals::trap::Trap::trapping)).
    pub(crate) trapped: WaitQueue,
    /// How it is single-stepped.
    pub step: StepFlags,
    /// Its debug registers.
    pub debug: DebugRegisters,
}

/// See [`Trace::links`].
pub(crate) struct Links<T> {
    /// Who traces it.
    pub(crate) tracer: Option<Arc<T>>,
    /// Whom it traces.
    pub(crate) tracees: Vec<Arc<T>>,
    /// The wait status of a traced thread that has ended and not been waited for.
    ended: Option<WaitStatus>,
}

impl<T> Default for Trace<T> {
    fn default() -> Self {
        Trace {
            flags: AtomicU32::default(),
            links: SpinLock::new(Links { tracer: None, tracees: Vec::new(), ended: None }),
            trapped: WaitQueue::new(),
            step: StepFlags::default(),
            debug: DebugRegisters::default(),
        }
    }
}

impl<T> Trace<T> {
    /// Whether it has a tracer.
    #[inline]
    pub fn is_traced(&self) -> bool {
        self.flags.load(Relaxed) != 0
    }

    /// Whether it is traced by PTRACE_SEIZE.
    pub fn is_seized(&self) -> bool {
        self.flags.load(Relaxed) & SEIZED != 0
    }

    /// Whether nobody traces it who could not trace a program with more rights.
    pub fn allows_new_rights(&self) -> bool {
        !self.is_traced() || self.flags.load(Relaxed) & PRIVILEGED != 0
    }

    /// What was said when it was attached beside the options.
    pub fn how(&self) -> u32 {
        self.flags.load(Relaxed) & (SEIZED | PRIVILEGED)
    }

    /// The options (`PTRACE_O_*`).
    pub fn options(&self) -> u32 {
        self.flags.load(Relaxed) & OPTIONS
    }

    /// Whether the tracer wants to be told of it.
    #[inline]
    pub fn wants(&self, event: Event) -> bool {
        self.flags.load(Relaxed) & 1 << event as u32 != 0
    }

    /// Replaces the options.
    pub fn set_options(&self, options: u32) {
        let flags = self.flags.load(Relaxed);
        self.flags.store(flags & !OPTIONS | options, Relaxed);
    }

    /// The tracer, if there is one.
    #[inline]
    pub fn tracer(&self) -> Option<Arc<T>> {
        self.links.lock().tracer.clone()
    }

    /// What `f` says of the tracer, without another reference to it. None if there is none. `f` runs with the links locked.
    #[inline]
    pub fn ask_tracer<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.links.lock().tracer.as_deref().map(f)
    }

    /// Whether `task` is the tracer.
    pub fn is_traced_by(&self, task: &T) -> bool {
        let links = self.links.lock();
        links.tracer.as_ref().is_some_and(|tracer| core::ptr::eq(&**tracer, task))
    }

    /// Calls `f` for each task it traces, until that gives something. With the tree locked.
    #[inline]
    pub fn find_tracee<R>(&self, mut f: impl FnMut(&Arc<T>) -> Option<R>) -> Option<R> {
        self.links.lock().tracees.iter().find_map(&mut f)
    }

    /// Whether it traces anybody.
    pub fn has_tracees(&self) -> bool {
        !self.links.lock().tracees.is_empty()
    }

    /// The wait status with which it ended, if it ended while it was traced.
    pub fn ended(&self) -> Option<WaitStatus> {
        self.links.lock().ended
    }

    /// Notes that it has ended.
    pub fn set_ended(&self, status: WaitStatus) {
        self.links.lock().ended = Some(status);
    }
}
