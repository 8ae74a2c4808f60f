//! The traits that a kernel implements, one per decision.
//!
//! | trait | what it decides |
//! | --- | --- |
//! | [`Machine`] | what the kernel runs on: registers, interrupt flag, context tracking; in [`machine`](crate::machine) |
//! | [`Kernel`] | what the kernel is: its words of pending work, its system calls |
//! | [`SyscallHooks`] | what else happens at a system call: tracers, filters, audit |
//! | [`ExitHooks`] | what happens on the way back to user mode, or to the kernel: reschedule, signals, task work |
//! | [`GuestHooks`] | what differs before a guest is entered; only for [`guest`](crate::guest) |
//! | [`Diagnostics`] | tracing, the die chain, checks of the kernel's own |
//!
//! The hooks have defaults, so a kernel starts with `impl SyscallHooks for MyKernel {}` and so on. [`Gate`] is all traits but
//! [`GuestHooks`] together. Hooks that Linux's generic entry code has are named as there.
//!
//! The state that a hook receives says what it may do: with `&mut InKernel` interrupts are on and it may sleep, with
//! `&mut Leaving` or `&mut Settled` they are off and it may not.

use crate::broken::{Broken, Wrong};
use crate::machine::{InterruptFlag, Machine, Tracking};
use crate::state::{EnteringGuest, InKernel, InSyscall, Interrupted, Leaving, Settled};
use crate::trace::Event;
use crate::work::{ExitWorkBits, SyscallWorkBits};

/// The system call is not to be made; its result is in the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skip;

/// The hook could not do its work with interrupts off, and has raised work of the loop: back into the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Again;

/// A fatal exception, for the die chain ([`die`](crate::die)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Die {
    /// The exception's vector.
    pub vector: u8,
    /// Its error code, 0 if it has none; for #DB [`Exception::cause`](crate::x86_64::Exception::cause).
    pub error: u64,
}

/// What a member of the die chain decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The next one is asked.
    Pass,
    /// No other is asked, and the exception is not acted on.
    Handled,
}

/// A member of the die chain.
pub type Notifier<R> = fn(&mut R, Die) -> Verdict;

/// What a kernel is, as seen from its gate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a kernel yet",
    label = "needs `impl Kernel for {Self}`: its words of pending work, its system calls",
    note = "`portcullis::contract` lists everything that a kernel owes"
)]
pub trait Kernel: Machine {
    /// What the bits of [`exit_work`](Self::exit_work) stand for.
    const EXIT_WORK: ExitWorkBits = ExitWorkBits::DEFAULT;
    /// What the bits of [`syscall_work`](Self::syscall_work) stand for.
    const SYSCALL_WORK: SyscallWorkBits = SyscallWorkBits::DEFAULT;

    /// The current task's exit-work word, read once. Other CPUs may write it meanwhile.
    fn exit_work() -> usize;
    /// The current task's system-call-work word, read once.
    fn syscall_work() -> usize;
    /// Whether system-call work may be armed: asked before each system call. A kernel that can tell by one instruction may say yes
    /// where the word has no bit of work at entry ([`CpuLocal::any_syscall_work`](crate::x86_64::CpuLocal::any_syscall_work)).
    #[inline(always)]
    fn any_syscall_work() -> bool {
        Self::syscall_work() & Self::SYSCALL_WORK.at_entry() != 0
    }
    /// Whether work of either word may be due after a system call: asked with interrupts off, in place of the last read of both words.
    /// As [`any_syscall_work`](Self::any_syscall_work) it may say yes where there is none
    /// ([`CpuLocal::any_work`](crate::x86_64::CpuLocal::any_work)).
    #[inline(always)]
    fn any_work() -> bool {
        Self::exit_work() & Self::EXIT_WORK.due(true) != 0 || Self::syscall_work() & Self::SYSCALL_WORK.at_exit() != 0
    }
    /// How often preemption is disabled on this CPU; at 0 the kernel may be preempted.
    fn preempt_count() -> usize;
    /// Makes the system call `number` with the arguments in the registers, and puts the result there. The number is not checked.
    /// The doors have put -ENOSYS into the result register.
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64);
    /// Makes the 32-bit system call `number`, as [`syscall`](Self::syscall): the arguments are the low halves of RBX, RCX, RDX,
    /// RSI, RDI and RBP.
    fn syscall_32(_at: &mut InSyscall<'_, Self>, _number: u32) {}
    /// A 32-bit system call begins or, after its exit work, ends. In between, code that asks which table the current call is of
    /// (filters, tracers, restarts) must be told the 32-bit one (Linux: TS_COMPAT). Interrupts off, context KERNEL.
    #[inline(always)]
    fn compat_call(_on: bool) {}
}

/// What happens on the way back: exit work. Which flag calls which hook, and when: [`work`](crate::work). A hook of the loop that
/// does not take its flag is called again; one after the loop is called again at the next return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what its exit work does",
    label = "needs `impl ExitHooks for {Self} {{}}`, with the hooks of the work that it raises"
)]
pub trait ExitHooks: Kernel {
    // ---- in the loop: interrupts on, may sleep ----

    /// NEED_RESCHED, NEED_RESCHED_LAZY: lets another task run, and returns when this task is to continue. By `work`, the
    /// exit-work word, a kernel may instead grant the task more time.
    fn schedule(_at: &mut InKernel<'_, Self>, _work: usize) {}
    /// UPROBE: handles the probe in user code that was hit.
    fn uprobe_notify_resume(_at: &mut InKernel<'_, Self>) {}
    /// PATCH_PENDING: switches the task to the patched code. Its stack holds the frames of the exit loop and the door.
    fn klp_update_patch_state(_at: &mut InKernel<'_, Self>) {}
    /// SIGPENDING, NOTIFY_SIGNAL: delivers a signal by changing the registers; if there is none, restarts an interrupted system
    /// call (the package `portcullis-linux-abi`).
    fn do_signal_or_restart(_at: &mut InKernel<'_, Self>) {}
    /// NOTIFY_RESUME: runs queued task work.
    fn resume_user_mode_work(_at: &mut InKernel<'_, Self>) {}
    /// Work of the kernel's own ([`ExitWorkBits::own_loop`]). `work` is the exit-work word.
    fn arch_exit_to_user_mode_work(_at: &mut InKernel<'_, Self>, _work: usize) {}

    // ---- after the loop: interrupts off, must not sleep or fault ----

    /// RSEQ: aborts the restartable sequence that the task was in, if it was.
    ///
    /// # Errors
    /// [`Again`] if that needs what cannot be done here (a page fault on user memory): the hook has raised work of the loop that
    /// will do it.
    fn rseq_exit_to_user_mode_restart(_at: &mut Settled<'_, Self>) -> Result<(), Again> {
        Ok(())
    }
    /// The loop has run, and nothing of it is left: starts the timer of an extension of the time slice that
    /// [`schedule`](Self::schedule) granted in place of another task's turn (Linux 7.0: `rseq_grant_slice_extension()`).
    ///
    /// # Errors
    /// [`Again`] if the extension is over already: the hook has raised NEED_RESCHED.
    #[inline(always)]
    fn rseq_arm_slice_extension_timer(_at: &mut Settled<'_, Self>) -> Result<(), Again> {
        Ok(())
    }
    /// USER_RETURN_NOTIFY: restores user-mode state (MSRs). Must not raise exit work.
    fn fire_user_return_notifiers(_at: &mut Settled<'_, Self>) {}
    /// Work of the kernel's own, once ([`ExitWorkBits::own_once`]). `work` is the exit-work word. Must not raise exit work.
    fn arch_exit_to_user_mode_once(_at: &mut Settled<'_, Self>, _work: usize) {}

    // ---- whatever is pending ----

    /// Interrupts were turned off, and the exit-work word is about to be read: may still raise work (Linux: the tick).
    fn tick_nohz_user_enter_prepare(_at: &mut Leaving<'_, Self>) {}
    /// After the exit work, before the context becomes USER. `work` is the exit-work word as last read, or 0 where [`any_work`](Kernel::any_work)
    /// found none of either kind. Must not raise exit work.
    fn arch_exit_to_user_mode_prepare(_at: &mut Settled<'_, Self>, _work: usize) {}

    // ---- back to the kernel ----

    /// An interrupt or exception that hit the kernel is done, preemption is enabled, and another task should run. Interrupts are off; the hook
    /// may turn them on while it schedules.
    fn preempt_schedule_irq(_at: &mut Interrupted<'_, Self>) {}
}

/// What else happens at a system call, interrupts on, may sleep. Which flag calls which hook: [`work`](crate::work).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what its system-call work does",
    label = "needs `impl SyscallHooks for {Self} {{}}`, with the hooks of the work that it arms"
)]
pub trait SyscallHooks: Kernel {
    // ---- before the call, in this order ----

    /// USER_DISPATCH: true if the call was turned into a SIGSYS instead.
    fn syscall_user_dispatch(_at: &mut InKernel<'_, Self>) -> bool {
        false
    }
    /// RSEQ_SLICE: the task runs on an extension of its time slice and makes a call: the extension ends here, or in the call
    /// (Linux 7.0: `rseq_slice_yield`).
    fn rseq_syscall_enter_work(_at: &mut InKernel<'_, Self>, _number: i64) {}
    /// TRACE, EMU: stops for the tracer, which may change all registers. With EMU the call is not made.
    ///
    /// # Errors
    /// [`Skip`] if the call is not to be made.
    fn ptrace_report_syscall_entry(_at: &mut InKernel<'_, Self>) -> Result<(), Skip> {
        Ok(())
    }
    /// SECCOMP: runs the filters.
    ///
    /// # Errors
    /// [`Skip`] if the call is not to be made.
    fn secure_computing(_at: &mut InKernel<'_, Self>) -> Result<(), Skip> {
        Ok(())
    }
    /// TRACEPOINT: reports the call.
    fn trace_sys_enter(_at: &mut InKernel<'_, Self>, _number: i64) {}
    /// AUDIT: begins the call's record.
    fn audit_syscall_entry(_at: &mut InKernel<'_, Self>, _number: i64) {}

    // ---- after the call, or in its place if it was skipped, in this order ----

    /// Whatever is armed: checks that the call was not made inside a restartable sequence.
    #[inline(always)]
    fn rseq_syscall(_at: &mut InKernel<'_, Self>) {}
    /// USER_DISPATCH: true if this call was turned into a SIGSYS at entry; the hooks below are not called then.
    fn on_user_dispatch(_at: &mut InKernel<'_, Self>) -> bool {
        false
    }
    /// AUDIT: ends the call's record.
    fn audit_syscall_exit(_at: &mut InKernel<'_, Self>) {}
    /// TRACEPOINT: reports the result.
    fn trace_sys_exit(_at: &mut InKernel<'_, Self>) {}
    /// TRACE, EXIT_TRAP: stops for the tracer or, if `step`, reports a single step instead (Linux: SIGTRAP).
    fn ptrace_report_syscall_exit(_at: &mut InKernel<'_, Self>, _step: bool) {}
}

/// What differs before a guest is entered. The other hooks are those of [`ExitHooks`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it does before a guest is entered",
    label = "needs `impl GuestHooks for {Self} {{}}`"
)]
pub trait GuestHooks: ExitHooks {
    /// NOTIFY_RESUME before a guest is entered: [`ExitHooks::resume_user_mode_work`], but must not change the registers, which are
    /// those of the hypervisor's system call.
    fn resume_guest_mode_work(at: &mut InKernel<'_, Self>) {
        Self::resume_user_mode_work(at);
    }

    /// After the work, before a guest is entered. Interrupts off, context KERNEL.
    fn arch_enter_guest_prepare(_at: &mut EnteringGuest<'_, Self>) {}
}

/// What watches the crossings.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how its crossings are watched",
    label = "needs `impl Diagnostics for {Self} {{}}`"
)]
pub trait Diagnostics: Kernel {
    /// Who is told of fatal exceptions ([`die`](crate::die)), in this order.
    const DIE_CHAIN: &'static [Notifier<Self::Regs>] = &[];

    /// Something crossed the boundary, or a part of a crossing begins or ends ([`trace`](crate::trace)). Context KERNEL,
    /// interrupts on or off, also in NMI handlers, so it must take no lock.
    #[inline(always)]
    fn trace(_event: Event, _value: u64) {}

    /// User mode was just left, the context is still USER: for checks of what the door saved. Must touch nothing that a grace
    /// period protects.
    #[inline(always)]
    fn arch_enter_from_user_mode(_regs: &Self::Regs) {}
    /// With [`CHECKS`](Machine::CHECKS): the host's own last checks before user mode (locks, mappings).
    fn check_before_user_mode(_at: &Settled<'_, Self>) {}
    /// With [`CHECKS`](Machine::CHECKS): an interrupt that hit the kernel with interrupts on is done. Preemption may follow.
    fn check_preemption_point() {}
    /// With [`CHECKS`](Machine::CHECKS): how often this CPU raised exit work for the current task
    /// ([`WorkFlags::raised_here`](crate::work::WorkFlags::raised_here)), to find hooks that raise work after the last read.
    fn raised_here() -> u32 {
        0
    }
}

/// A kernel with all that its gate needs. Follows from its parts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a whole gate yet",
    note = "it needs `Kernel`, `ExitHooks`, `SyscallHooks` and `Diagnostics`; the last three may be empty: `impl ExitHooks for {Self} {{}}`"
)]
pub trait Gate: ExitHooks + SyscallHooks + Diagnostics {}
impl<K: ExitHooks + SyscallHooks + Diagnostics> Gate for K {}

/// With [`Machine::CHECKS`]: a hook that works for the task has returned, in which state?
#[inline(always)]
pub(crate) fn returned<K: Kernel>(hook: &'static str, interrupts_on: bool) {
    if K::CHECKS && K::preempt_count() != 0 {
        let wrong = Wrong::PreemptionDisabled;
        K::invariant_broken(Broken::Returned { hook, wrong });
    }
    returned_anywhere::<K>(hook, interrupts_on);
}

/// The same for a handler that may have hit code with preemption disabled.
#[inline(always)]
#[allow(unsafe_code, reason = "turns interrupts on where they must be")]
pub(crate) fn returned_anywhere<K: Kernel>(hook: &'static str, interrupts_on: bool) {
    if !K::CHECKS {
        return;
    }
    let broken = |wrong| K::invariant_broken(Broken::Returned { hook, wrong });
    if !K::Context::in_kernel() {
        broken(Wrong::Context);
    }
    match (K::Irqs::is_on(), interrupts_on) {
        (true, false) => {
            broken(Wrong::InterruptsOn);
            K::Irqs::off();
        }
        (false, true) => {
            broken(Wrong::InterruptsOff);
            // SAFETY: the hook was given `InKernel`, and so is what follows.
            unsafe { K::Irqs::on() };
        }
        _ => {}
    }
}
