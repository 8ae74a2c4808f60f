//! Tasks and processes: what the kernel knows of a program that runs.
//!
//! A [`Task`] is one thread of execution: what the CPU switches between. A [`Process`] is a thread group: what has a
//! PID, a parent and an exit status. Tasks hold their process; the process tree ([`process`]) holds both.
//!
//! Lock order: process tree → `Process::signals` → `Task::signals` → wait queues → run queue.

pub mod access;
pub mod affinity;
pub mod capabilities;
pub mod clock;
pub mod credentials;
pub mod exit_signal;
pub mod limits;
pub mod pid_namespace;
pub mod posix_timers;
pub mod process;
pub mod restart;
pub mod slot;
pub mod syscall_info;
pub mod system_info;
pub mod timers;
pub mod trace_state;
pub mod usage;
pub mod user_namespace;

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use portcullis::InKernel;
use portcullis::work::{ExitWork, WorkFlags};
use portcullis::x86_64::CpuLocal;
use portcullis::x86_64::UserRegs;

use crate::errno::Result;
use crate::fs::path::FsContext;
use crate::machine::cpu;
use crate::machine::gate::Gate;
use crate::machine::sync::{Once, SpinLock};
use crate::memory::address_space::AddressSpace;
use crate::memory::stack::KernelStack;
use crate::memory::width::Width;
use crate::sched::segments::ports::Ports;
use crate::sched::segments::tls::Tls;
use crate::task::pid_namespace::Namespace;
use crate::task::signals::action::SigHand;
use crate::task::signals::state::TaskSignals;
use crate::task::trace_state::Trace;
use crate::vfs::fd::FdTable;

pub use crate::task::slot::Own;
pub use process::{Pid, Process};

/// One thread of execution.
#[repr(C)]
pub struct Task {
    /// Work pending for this task. First, so that the doors find it at the address of the task.
    pub work: WorkFlags,
    /// What the scheduler keeps of it (guarded by the run-queue lock).
    pub sched: crate::sched::scheduler::Entry,
    /// `scheduler::RUNNING`, `INTERRUPTIBLE`, …
    pub state: AtomicU32,
    /// Changes once at most: a thread that execs takes over its process's PID.
    tid: AtomicI32,
    pub stack: KernelStack,
    pub segments: UnsafeCell<crate::sched::switch::Segments>,
    /// What a switch to or from it has to do beside the usual ([`switch::SwitchWork`](crate::sched::switch::SwitchWork)).
    pub switch_work: AtomicU32,
    /// Which I/O ports it may use.
    pub ports: Ports,
    /// Its descriptors for thread-local storage.
    pub tls: Tls,
    /// The extended register state while the task is not running.
    pub fpu: crate::sched::fpu::FpuArea,
    /// The thread group.
    pub process: Arc<Process>,
    pub mm: Own<AddressSpace>,
    /// Open files. None once the task is exiting.
    pub files: Own<FdTable>,
    /// Working directory, root, umask. None once the task is exiting.
    pub fs: Own<FsContext>,
    /// Signal actions; shared by all threads of a process.
    pub sighand: Own<SigHand>,
    /// Blocked and pending signals of this thread.
    pub signals: SpinLock<TaskSignals>,
    /// Whose table the system call under way is of.
    pub call: crate::task::syscall_info::State,
    /// Its user registers while it waits.
    pub lent: crate::sched::lent::Lent,
    /// Its part in tracing, as tracee and as tracer.
    pub trace: Trace,
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
    pub locks: crate::life::futex::pi::TaskLocks,
    /// CPUs it may run on.
    pub affinity: AtomicU64,
    /// What the gate's hooks keep.
    pub hooks: crate::work::hooks::Hooks,
    /// CPU time and events of this thread.
    pub usage: usage::Usage,
    /// Nice value, scheduling policy and priority: kept for the calls that ask, without effect on the order.
    pub policy: crate::task::affinity::Policy,
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
    /// What a kernel-made task runs before (or instead of) user mode.
    pub start: Option<Start>,
}

// SAFETY: `sched` is guarded by the run-queue lock; `segments` is touched only by the task itself and by the context
// switch that takes it off or puts it on a CPU; everything else is Sync on its own.
unsafe impl Sync for Task {}
// SAFETY: as above.
unsafe impl Send for Task {}

/// What a task runs in the kernel before it goes to user mode, with the registers that it goes there with.
pub type Start = fn(&mut InKernel<'_, Gate>);

/// Everything a new task starts with that is not the same for all.
pub struct NewTask {
    /// Its TID, from [`process::Tree::allocate_pid`].
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
        let stack = KernelStack::new()?;
        let regs = stack.top() - size_of::<UserRegs>() as u64;
        // SAFETY: the top of a fresh stack, big enough and aligned for it. The task has not run, so no door has the registers.
        unsafe { (regs as *mut UserRegs).write(new.regs) };
        // SAFETY: `regs` is at the top of a stack that nothing has run on.
        let stack_pointer = unsafe { crate::sched::switch::prepare_stack(regs) };
        let namespace = new.process.pid_namespace.clone();
        Ok(Arc::new(Task {
            work: WorkFlags::new(),
            sched: crate::sched::scheduler::Entry::new(stack_pointer),
            state: AtomicU32::new(crate::sched::scheduler::NEW),
            tid: AtomicI32::new(new.tid),
            stack,
            segments: UnsafeCell::new(crate::sched::switch::Segments::default()),
            switch_work: AtomicU32::new(0),
            ports: Ports::default(),
            tls: Tls::default(),
            fpu: crate::sched::fpu::FpuArea::new(),
            process: new.process,
            mm: Own::new(Some(new.mm)),
            files: Own::new(new.files),
            fs: Own::new(new.fs),
            sighand: Own::new(Some(new.sighand)),
            signals: SpinLock::new(new.signals),
            call: crate::task::syscall_info::State::default(),
            lent: crate::sched::lent::Lent::default(),
            trace: Trace::default(),
            restart: restart::State::new(),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            robust_list_32: AtomicU64::new(0),
            locks: crate::life::futex::pi::TaskLocks::default(),
            affinity: AtomicU64::new(u64::MAX),
            hooks: crate::work::hooks::Hooks::new(),
            usage: usage::Usage::default(),
            policy: crate::task::affinity::Policy::default(),
            parent_death_signal: AtomicI32::new(0),
            no_new_privs: AtomicBool::new(false),
            pid_namespace_of_children: SpinLock::new(namespace),
            timer_slack: AtomicU64::new(50_000),
            comm: SpinLock::new([0; 16]),
            vfork_done: SpinLock::new(None),
            start: new.start,
        }))
    }

    /// Thread id.
    pub fn tid(&self) -> Pid {
        self.tid.load(Relaxed)
    }

    /// Its address space; the kernel's own (with no user mappings) for a kernel thread and for one that has exited.
    pub fn mm(&self) -> Arc<AddressSpace> {
        self.mm.share().unwrap_or_else(kernel_mm)
    }

    /// Raises exit work, and sends the CPU that the task runs on the interrupt it is owed. From any context.
    pub fn raise(&self, work: ExitWork) {
        let owed = self.work.raise(work, CpuLocal::raising_cpu);
        owed.send(|cpu| cpu::send_reschedule(cpu as usize));
    }

    /// Raises exit work of the task that this CPU runs, or of one that has not run yet: nobody is owed an interrupt.
    pub fn raise_for_current(&self, work: ExitWork) {
        self.work.raise(work, CpuLocal::raising_cpu).none_owed();
    }

    /// Whether a signal (or another reason to leave an interruptible sleep) is pending.
    #[inline]
    pub fn signal_pending(&self) -> bool {
        self.work.is_raised(ExitWork::SIGPENDING | ExitWork::NOTIFY_SIGNAL)
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
    let task: *const Task;
    // SAFETY: GS base is this CPU's area. One instruction, so that no migration can come between finding the CPU and
    // reading its field. For the code of one task the value never changes, so the compiler may reuse it.
    unsafe {
        core::arch::asm!("mov {}, gs:[{}]", out(reg) task, const core::mem::offset_of!(crate::machine::cpu::Cpu, current),
            options(pure, nomem, nostack, preserves_flags));
        &*task
    }
}

/// [`current`], to keep.
pub fn current_arc() -> Arc<Task> {
    let task: *const Task = current();
    // SAFETY: every task lives in an Arc (`Task::new`), and the scheduler's reference keeps the current one alive.
    unsafe {
        Arc::increment_strong_count(task);
        Arc::from_raw(task)
    }
}

/// The current task's address space, without touching its count. Only the task itself replaces it (exec, exit).
#[inline]
pub fn current_mm() -> &'static AddressSpace {
    &current().mm
}

static KERNEL_MM: Once<Arc<AddressSpace>> = Once::new();

/// The address space without user mappings that kernel threads run in.
pub fn kernel_mm() -> Arc<AddressSpace> {
    KERNEL_MM
        .call_once(|| AddressSpace::new(Width::Bits64, None).expect("no memory for the kernel's address space"))
        .clone()
}

/// Replaces the current task's address space and switches to it. Returns the old one, to be dropped with interrupts on.
pub fn replace_mm(mm: Arc<AddressSpace>) -> Option<Arc<AddressSpace>> {
    // A preemption between the two steps would compare against the wrong space at the next switch.
    let _guard = crate::machine::sync::irqs_off();
    mm.activate();
    current().mm.replace(Some(mm))
}

pub mod signals;
