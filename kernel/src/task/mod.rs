//! Tasks and processes: what the kernel knows of a program that runs.
//!
//! A [`Task`] is one thread of execution, with its [`Thread`], which the scheduler switches to. A [`Process`] is a thread group:
//! what has a PID, a parent and an exit status. Tasks hold their process; the process tree ([`tree`]) holds both.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | find a task or a process, or know who is whose child | [`tree`] |
//! | know who is who, and who may do what | [`credentials`], and there what of the current task, or over another process |
//! | know which number a process has for whom | [`pid`], and there [`namespace`](pid::namespace), [`numbers`](pid::numbers), [`choice`](pid::choice) |
//! | see what is kept of signals | [`signals`] |
//! | see what a filter is | [`seccomp`]; which calls are dispatched to the program [`user_dispatch`]; the area of restartable sequences [`rseq`]; what the other hooks keep [`hooks`] |
//! | know about the system call under way | [`syscall_info`]; how it goes on after a signal [`restart`] |
//! | know who traces a task | [`trace_state`] |
//! | know how a program wants its memory laid out | [`personality`] |
//! | measure and limit | [`usage`], [`limits`], [`clock`], [`timers`] |
//! | see how an end is told | [`wait_status`], [`exit_signal`] |
//!
//! Lock order: process tree → `Process::signals` → `Task::signals` → wait queues → run queue.

pub mod clock;
pub mod credentials;
pub mod exit_signal;
pub mod futex_locks;
pub mod hooks;
pub mod limits;
pub mod personality;
pub mod pid;
pub mod process;
pub mod restart;
pub mod rseq;
pub mod seccomp;
pub mod syscall_info;
pub mod system_info;
pub mod timers;
pub mod trace_state;
pub mod tree;
pub mod usage;
pub mod user_dispatch;
pub mod wait_status;

use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::*};

use portcullis::x86_64::UserRegs;

use crate::errno::Result;
use crate::machine::cpu;
use crate::machine::sync::SpinLock;
use crate::memory::address_space::AddressSpace;
use crate::sched::slot::Own;
use crate::sched::thread::{Owner, Start, Thread};
use crate::task::pid::namespace::Namespace;
use crate::task::signals::action::SigHand;
use crate::task::signals::state::TaskSignals;
use crate::task::syscall_info::state::SyscallInfo;
use crate::task::trace_state::Trace;
use crate::vfs::context::FsContext;
use crate::vfs::fd::FdTable;

pub use pid::Pid;
pub use process::Process;

/// One thread of execution, and all that the kernel keeps for it. What the scheduler knows of it is its [`Thread`], whose fields are
/// the task's by [`Deref`].
#[repr(C)]
pub struct Task {
    thread: Thread,
    /// Changes once at most: a thread that execs takes over its process's PID.
    tid: AtomicI32,
    /// The thread group.
    pub process: Arc<Process>,
    /// Open files. None once the task is exiting.
    pub files: Own<FdTable>,
    /// Working directory, root, umask. None once the task is exiting.
    pub fs: Own<FsContext>,
    /// Signal actions; shared by all threads of a process.
    pub sighand: Own<SigHand>,
    /// Blocked and pending signals of this thread.
    pub signals: SpinLock<TaskSignals>,
    /// Whose table the system call under way is of.
    pub syscall_info: SyscallInfo,
    /// Its part in tracing, as tracee and as tracer.
    pub trace: Trace<Task>,
    /// How an interrupted call continues in `restart_syscall`.
    pub restart: restart::State,
    /// Cleared and woken as a futex when the thread ends (set_tid_address).
    pub clear_child_tid: AtomicU64,
    /// Written with the TID when the task first runs (CLONE_CHILD_SETTID).
    pub set_child_tid: AtomicU64,
    /// Head of the robust futex list in user memory.
    pub robust_list: AtomicU64,
    /// The same of 32-bit calls.
    pub robust_list_32: AtomicU64,
    /// What it keeps for locks whose owner the kernel knows.
    pub locks: crate::task::futex_locks::TaskLocks,
    /// What the gate's hooks keep.
    pub hooks: crate::task::hooks::Hooks,
    /// prctl(PR_SET_PDEATHSIG).
    pub parent_death_signal: AtomicI32,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: AtomicBool,
    /// Where its children have further numbers: its process's namespace, but after `unshare`. Changed by the task alone.
    pub pid_namespace_of_children: SpinLock<Namespace>,
    /// Timer slack, kept for prctl.
    pub timer_slack: AtomicU64,
    pub comm: SpinLock<[u8; 16]>,
    /// The parent that waits until this vfork child execs or ends.
    pub vfork_done: SpinLock<Option<Arc<crate::sched::wait::Completion>>>,
}

// SAFETY: `repr(C)`, the thread comes first, and `Task::new` makes it for this type.
unsafe impl Owner for Task {}

impl Deref for Task {
    type Target = Thread;
    #[inline(always)]
    fn deref(&self) -> &Thread {
        &self.thread
    }
}

/// Everything a new task starts with that is not the same for all.
pub struct NewTask {
    /// Its TID, from [`tree::Tree::allocate_pid`].
    pub tid: Pid,
    /// The thread group.
    pub process: Arc<Process>,
    /// Address space; the kernel's own for kernel threads.
    pub mm: Arc<AddressSpace>,
    /// Open files.
    pub files: Option<Arc<FdTable>>,
    /// Working directory and so on.
    pub fs: Option<Arc<FsContext>>,
    /// Signal actions.
    pub sighand: Arc<SigHand>,
    /// Blocked signals, alternate stack.
    pub signals: TaskSignals,
    /// The registers that it enters user mode with.
    pub regs: UserRegs,
    /// What it runs in the kernel before.
    pub start: Option<Start>,
}

impl Task {
    /// A task that is not yet runnable.
    pub fn new(new: NewTask) -> Result<Arc<Task>> {
        let namespace = new.process.pid_namespace.clone();
        Ok(Arc::new(Task {
            thread: Thread::new::<Task>(new.mm, new.regs, new.start)?,
            tid: AtomicI32::new(new.tid),
            process: new.process,
            files: Own::new(new.files),
            fs: Own::new(new.fs),
            sighand: Own::new(Some(new.sighand)),
            signals: SpinLock::new(new.signals),
            syscall_info: SyscallInfo::default(),
            trace: Trace::default(),
            restart: restart::State::new(),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            robust_list_32: AtomicU64::new(0),
            locks: crate::task::futex_locks::TaskLocks::default(),
            hooks: crate::task::hooks::Hooks::new(),
            parent_death_signal: AtomicI32::new(0),
            no_new_privs: AtomicBool::new(false),
            pid_namespace_of_children: SpinLock::new(namespace),
            timer_slack: AtomicU64::new(50_000),
            comm: SpinLock::new([0; 16]),
            vfork_done: SpinLock::new(None),
        }))
    }

    /// Thread id.
    pub fn tid(&self) -> Pid {
        self.tid.load(Relaxed)
    }

    /// The name `ps` shows: the program's, or what prctl(PR_SET_NAME) set; NUL-padded.
    pub fn comm(&self) -> [u8; 16] {
        *self.comm.lock()
    }

    /// Sets the name, cut to 15 bytes.
    pub fn set_comm(&self, name: &[u8]) {
        let mut comm = [0; 16];
        let len = name.iter().position(|&b| b == 0).unwrap_or(name.len()).min(15);
        comm[..len].copy_from_slice(&name[..len]);
        *self.comm.lock() = comm;
    }

    /// Whether the task never enters user mode.
    pub fn is_kernel_thread(&self) -> bool {
        self.files.is_none() && self.fs.is_none() && self.start.is_some()
    }
}

/// The task this CPU runs. The reference is valid as long as the caller runs, which is what "current" means.
#[inline(always)]
pub fn current() -> &'static Task {
    // SAFETY: all that the scheduler runs is the thread of a task, and its reference keeps the current one alive.
    unsafe { &*cpu::current().cast::<Task>() }
}

/// [`current`], to keep.
pub fn current_arc() -> Arc<Task> {
    let task = cpu::current().cast::<Task>();
    // SAFETY: every task lives in an Arc (`Task::new`), and the scheduler's reference keeps the current one alive.
    unsafe {
        Arc::increment_strong_count(task);
        Arc::from_raw(task)
    }
}

/// The task whose thread this is.
pub fn of(thread: &Thread) -> &Task {
    debug_assert!(!thread.owner().is_null(), "a thread that has not started");
    // SAFETY: all that the scheduler runs is the thread of a task; it has started, so the pointer is there, to what keeps the thread.
    unsafe { &*thread.owner().cast::<Task>() }
}

pub mod signals;
