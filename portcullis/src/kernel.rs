//! The trait that a kernel implements.

use crate::host::{InterruptFlag, Registers, Tracking};
use crate::state::{EnteringGuest, InKernel, InSyscall, Interrupted, Leaving, Nmi};
use crate::trace::Event;
use crate::work::{ExitWorkBits, SyscallWorkBits};

/// An invariant that did not hold. See [`Kernel::invariant_broken`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// A door was entered from user mode and the context was not USER.
    ArrivedNotFromUser,
    /// User mode was about to be entered and the context was not KERNEL.
    LeavingNotFromKernel,
    /// The idle loop was entered, or left, from the wrong context.
    IdleFromWrongContext,
    /// A guest was entered, or left, from the wrong context.
    GuestFromWrongContext,
    /// Interrupts were on at the last check.
    InterruptsOn,
    /// Preemption was disabled, or a lock was held, at the last check.
    PreemptionDisabled,
    /// A system call came back with interrupts off, or outside the context KERNEL.
    SyscallLeftWrongState,
    /// A notifier was to run in a context that is not KERNEL.
    NotifierOutsideKernel,
    /// A flag that the user set is still set in the kernel (TF, DF, NT or AC). Checked with debug assertions.
    UserFlagsInKernel,
}

/// The syscall-entry work decided that the system call is not to be made. The return value is in the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skip;

/// A fatal exception, for the die chain ([`notify`](crate::notify)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Die {
    /// The exception's vector.
    pub vector: u8,
    /// Its error code, 0 if it has none. For #DB why it came: DR6, with the bits inverted that read as 1 when nothing
    /// happened.
    pub error: u64,
}

/// What a member of the die chain says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not mine; ask the next one.
    Pass,
    /// Handled: nobody else is asked and the exception is not acted on.
    Handled,
}

/// A member of the die chain.
pub type Notifier<R> = fn(&mut R, Die) -> Verdict;

/// A kernel, as seen from its gate.
///
/// The required items say what the kernel is; the hooks are called when their flag is raised, and each has a default
/// that compiles to nothing. A hook that leaves its flag raised is called again.
///
/// What a hook may do is what the state it receives allows: with `&mut InKernel` interrupts are on and it may sleep, with
/// `&mut Leaving` they are off and it may not.
///
/// The names are those of Linux 6.1's generic entry code.
pub trait Kernel: Sized + 'static {
    /// The registers that the doors save.
    type Regs: Registers + 'static;
    /// The interrupt flag.
    type Irqs: InterruptFlag;
    /// Context tracking.
    type Context: Tracking;

    /// Which bits of [`exit_work`](Self::exit_work) stand for what.
    const EXIT_WORK: ExitWorkBits = ExitWorkBits::DEFAULT;
    /// Which bits of [`syscall_work`](Self::syscall_work) stand for what.
    const SYSCALL_WORK: SyscallWorkBits = SyscallWorkBits::DEFAULT;
    /// Who is told of fatal exceptions, in this order. See [`notify`](crate::notify).
    const DIE_CHAIN: &'static [Notifier<Self::Regs>] = &[];

    /// The current task's exit-work word, read once. A racy read of memory that other CPUs write.
    fn exit_work() -> usize;
    /// The current task's syscall-work word, read once.
    fn syscall_work() -> usize;
    /// Makes the system call `number` with the arguments in the registers, and puts the result there.
    ///
    /// Any 64-bit number may come. The result register holds -ENOSYS beforehand.
    fn syscall(at: &mut InSyscall<'_, Self::Regs>, number: i64);
    /// Makes the 32-bit system call `number`: the arguments are the low halves of EBX, ECX, EDX, ESI, EDI and EBP.
    ///
    /// Any number may come. The result register holds -ENOSYS beforehand.
    fn syscall_32(_at: &mut InSyscall<'_, Self::Regs>, _number: u32) {}
    /// A 32-bit system call begins, or is over: nothing is left of it when user mode is entered, whatever it returned
    /// and whoever it made. What the current task does meanwhile is of the 32-bit table: entry and exit work ask for it (Linux:
    /// TS_COMPAT). Interrupts off, context KERNEL.
    #[inline(always)]
    fn compat_call(_on: bool) {}
    /// Whether the invariants that cost something are checked: the interrupt flag and the preemption count at every exit.
    const CHECKS: bool = cfg!(debug_assertions);
    /// How often preemption is disabled on this CPU; 0 means that the kernel may be preempted here.
    fn preempt_count() -> usize;

    // ---- exit work, in the loop: interrupts on, may sleep ----

    /// NEED_RESCHED, NEED_RESCHED_LAZY: lets another task run. Comes back when this task is to go on.
    fn schedule(_at: &mut InKernel<'_, Self::Regs>) {}
    /// UPROBE: handles the user-space probe that was hit.
    fn uprobe_notify_resume(_at: &mut InKernel<'_, Self::Regs>) {}
    /// PATCH_PENDING: switches the task to the new code; it holds no old code on its stack here.
    fn klp_update_patch_state(_at: &mut InKernel<'_, Self::Regs>) {}
    /// SIGPENDING, NOTIFY_SIGNAL: delivers a signal by changing the registers, or restarts an interrupted system
    /// call if there is none. See [`restart`](crate::restart).
    fn do_signal_or_restart(_at: &mut InKernel<'_, Self::Regs>) {}
    /// NOTIFY_RESUME: runs queued task work.
    fn resume_user_mode_work(_at: &mut InKernel<'_, Self::Regs>) {}
    /// RSEQ: aborts the restartable sequence that the task was in, if it was.
    fn rseq_handle_notify_resume(_at: &mut InKernel<'_, Self::Regs>) {}
    /// Exit work of the host that has a bit in [`EXTRA_EXIT_WORK`](Self::EXTRA_EXIT_WORK).
    fn arch_exit_to_user_mode_work(_at: &mut InKernel<'_, Self::Regs>, _work: usize) {}
    /// More bits of the exit-work word, for [`arch_exit_to_user_mode_work`](Self::arch_exit_to_user_mode_work).
    const EXTRA_EXIT_WORK: usize = 0;

    // ---- exit work, once, after the loop: interrupts off ----

    /// Exit work of the host that runs once, with interrupts off: bits of [`EXTRA_ONCE_WORK`](Self::EXTRA_ONCE_WORK). Must
    /// not raise exit work.
    fn arch_exit_to_user_mode_once(_at: &mut Leaving<'_, Self::Regs>, _work: usize) {}
    /// More bits of the exit-work word, for [`arch_exit_to_user_mode_once`](Self::arch_exit_to_user_mode_once).
    const EXTRA_ONCE_WORK: usize = 0;

    /// Before each read of the exit-work word: what may still raise work with interrupts off (Linux: the tick).
    fn tick_nohz_user_enter_prepare(_at: &mut Leaving<'_, Self::Regs>) {}
    /// USER_RETURN_NOTIFY: puts back user-mode state (MSRs). Must not raise exit work.
    fn fire_user_return_notifiers(_at: &mut Leaving<'_, Self::Regs>) {}
    /// The last thing before the context becomes USER, at every exit: restores lazily kept state. Must not raise exit
    /// work.
    fn arch_exit_to_user_mode_prepare(_at: &mut Leaving<'_, Self::Regs>, _work: usize) {}

    // ---- syscall-entry work, in this order; the number is read again after each that may change it ----

    /// USER_DISPATCH: true if the call was turned into a SIGSYS instead.
    fn syscall_user_dispatch(_at: &mut InKernel<'_, Self::Regs>) -> bool {
        false
    }
    /// TRACE, EMU: stops for the tracer, which may change all registers. With EMU the call is not made.
    fn ptrace_report_syscall_entry(_at: &mut InKernel<'_, Self::Regs>) -> Result<(), Skip> {
        Ok(())
    }
    /// SECCOMP: runs the filters.
    fn secure_computing(_at: &mut InKernel<'_, Self::Regs>) -> Result<(), Skip> {
        Ok(())
    }
    /// TRACEPOINT: reports the call.
    fn trace_sys_enter(_at: &mut InKernel<'_, Self::Regs>, _number: i64) {}
    /// AUDIT: begins the call's record.
    fn audit_syscall_entry(_at: &mut InKernel<'_, Self::Regs>, _number: i64) {}

    // ---- syscall-exit work, exactly once per system call, interrupts on ----

    /// Every system call: checks that it was not made inside a restartable sequence.
    fn rseq_syscall(_at: &mut InKernel<'_, Self::Regs>) {}
    /// USER_DISPATCH: true if this call was turned into a SIGSYS at entry; no other exit work is due then.
    fn on_user_dispatch(_at: &mut InKernel<'_, Self::Regs>) -> bool {
        false
    }
    /// AUDIT: ends the call's record.
    fn audit_syscall_exit(_at: &mut InKernel<'_, Self::Regs>) {}
    /// TRACEPOINT: reports the result.
    fn trace_sys_exit(_at: &mut InKernel<'_, Self::Regs>) {}
    /// TRACE, EXIT_TRAP: stops for the tracer; `step` is true if a single step is to be reported.
    fn ptrace_report_syscall_exit(_at: &mut InKernel<'_, Self::Regs>, _step: bool) {}

    // ---- what hits the kernel ----

    /// An interrupt that hit the kernel is done, preemption is enabled and another task should run.
    ///
    /// Interrupts are off; the hook turns them on while it schedules and off again.
    fn preempt_schedule_irq(_at: &mut Interrupted<'_, Self::Regs>) {}
    /// A non-maskable interrupt. Never called on a CPU where it is running: it is called once more for those that come
    /// meanwhile, however many, with the registers of the first.
    fn nmi(_at: &mut Nmi<'_, Self::Regs>) {}

    // ---- guests ----

    /// NOTIFY_RESUME before a guest is entered: as [`resume_user_mode_work`](Self::resume_user_mode_work), but the registers
    /// stay those of the hypervisor's system call and are not to be changed.
    fn resume_guest_mode_work(at: &mut InKernel<'_, Self::Regs>) {
        Self::resume_user_mode_work(at);
    }

    /// The last thing before a guest is entered: no work pending, interrupts off, context KERNEL.
    fn arch_enter_guest_prepare(_at: &mut EnteringGuest<'_, Self::Regs>) {}

    // ---- checks ----

    /// User mode was just left, the context is still USER: what the host checks about how the door saved it. Must be fit to
    /// run there.
    #[inline(always)]
    fn arch_enter_from_user_mode(_regs: &Self::Regs) {}
    /// With [`CHECKS`](Self::CHECKS): the host's own last checks before user mode (locks, mappings).
    fn check_before_user_mode(_at: &mut Leaving<'_, Self::Regs>) {}
    /// With [`CHECKS`](Self::CHECKS): an interrupt that hit the kernel with interrupts on is done. The kernel might be
    /// preempted here.
    fn check_preemption_point() {}

    // ---- tracing ----

    /// Something crossed the boundary, or a part of a crossing begins or ends; what `value` is, the event says. For a
    /// timeline of the crossings ([`trace`](crate::trace)).
    ///
    /// Context KERNEL, interrupts on or off, anywhere in the kernel, NMIs included: it may take no lock.
    #[inline(always)]
    fn trace(_event: Event, _value: u64) {}

    // ---- when something is wrong ----

    /// An invariant of the crossing did not hold. The crossing goes on in the state it should have been in.
    #[cold]
    fn invariant_broken(_broken: Broken) {}
}
