//! What each hook of the library is in Linux.

use core::ffi::{CStr, c_char};

use portcullis::work::{ExitWorkBits, Phase, SyscallWorkBits};
use portcullis::{
    Broken, Diagnostics, ExitHooks, GuestHooks, InKernel, InSyscall, Interrupted, Kernel, Leaving, Machine, Settled,
    Skip, SyscallHooks, Wrong,
};

use crate::current::{self, task};
use crate::irq_flag::LocalIrq;
use crate::regs::PtRegs;
use crate::{Linux, offsets, preempt, syscall, user_dispatch, version};

unsafe extern "C" {
    #[cfg(CONFIG_UPROBES)]
    fn uprobe_notify_resume(regs: *mut PtRegs);
    #[cfg(CONFIG_LIVEPATCH)]
    fn portcullis_klp_update_patch_state();
    fn portcullis_resume_user_mode_work(regs: *mut PtRegs);
    #[cfg(CONFIG_NO_HZ_FULL)]
    static context_tracking_key: crate::static_key::StaticKey;
    #[cfg(CONFIG_NO_HZ_FULL)]
    fn portcullis_tick_nohz_user_enter_prepare();
    #[cfg(CONFIG_USER_RETURN_NOTIFIER)]
    fn fire_user_return_notifiers();
    fn portcullis_tss_update_io_bitmap();
    fn switch_fpu_return();
    #[cfg(CONFIG_X86_DEBUG_FPU)]
    fn fpregs_assert_state_consistent();
    fn portcullis_ibpb_exit_to_user();
    fn portcullis_ptrace_report_syscall_entry(regs: *mut PtRegs) -> i32;
    fn portcullis_ptrace_report_syscall_exit(regs: *mut PtRegs, step: i32);
    fn portcullis_trace_sys_enter(regs: *mut PtRegs, number: isize);
    fn portcullis_trace_sys_exit(regs: *mut PtRegs);
    fn portcullis_audit_syscall_entry(regs: *mut PtRegs, number: isize);
    fn portcullis_audit_syscall_exit(regs: *mut PtRegs);
    #[cfg(CONFIG_DEBUG_ENTRY)]
    fn portcullis_arch_enter_from_user_mode(regs: *const PtRegs);
    fn portcullis_check_before_user_mode();
    fn portcullis_check_preemption_point();
    fn portcullis_invariant_broken(text: *const c_char, name: *const u8, length: usize);
}

// Nothing that Linux tests may be missing here, and nothing else may be in it.
const _: () = assert!(<Linux as Kernel>::EXIT_WORK.of(Phase::Loop) == offsets::EXIT_WORK_ALL);
const _: () = assert!(<Linux as Kernel>::SYSCALL_WORK.at_entry() == offsets::WORK_AT_ENTRY);
const _: () = assert!(<Linux as Kernel>::SYSCALL_WORK.at_exit() == offsets::WORK_AT_EXIT);

// SAFETY of all calls below: each is the function that Linux itself calls at this place, in the state that the library's
// argument stands for; the registers are those of the crossing.
impl Machine for Linux {
    type Regs = PtRegs;
    type SavedRegs = PtRegs;
    type Irqs = LocalIrq;
    type Context = Linux;
    const CHECKS: bool = cfg!(any(CONFIG_DEBUG_ENTRY, CONFIG_PROVE_LOCKING));

    #[cold]
    #[inline(always)]
    fn invariant_broken(broken: Broken) {
        let (text, name) = describe(broken);
        unsafe { portcullis_invariant_broken(text.as_ptr(), name.as_ptr(), name.len()) }
    }
}

impl Kernel for Linux {
    const EXIT_WORK: ExitWorkBits = ExitWorkBits {
        need_resched: offsets::TIF_NEED_RESCHED_BIT,
        need_resched_lazy: offsets::TIF_NEED_RESCHED_LAZY_BIT,
        sigpending: offsets::TIF_SIGPENDING_BIT,
        notify_signal: offsets::TIF_NOTIFY_SIGNAL_BIT,
        notify_resume: offsets::TIF_NOTIFY_RESUME_BIT,
        uprobe: offsets::TIF_UPROBE_BIT,
        patch_pending: offsets::TIF_PATCH_PENDING_BIT,
        user_return_notify: offsets::TIF_USER_RETURN_NOTIFY_BIT,
        // Before Linux 7.2 it is done with NOTIFY_RESUME.
        rseq: offsets::TIF_RSEQ_BIT,
        own_loop: 0,
        own_once: offsets::TIF_IO_BITMAP_BIT | offsets::TIF_NEED_FPU_LOAD_BIT,
        not_after_syscalls: 0,
        not_after_events: 0,
    };
    const SYSCALL_WORK: SyscallWorkBits = SyscallWorkBits {
        user_dispatch: offsets::WORK_USER_DISPATCH,
        trace: offsets::WORK_TRACE,
        emu: offsets::WORK_EMU,
        seccomp: offsets::WORK_SECCOMP,
        tracepoint: offsets::WORK_TRACEPOINT,
        audit: offsets::WORK_AUDIT,
        rseq_slice: offsets::WORK_RSEQ_SLICE,
        exit_trap: offsets::WORK_EXIT_TRAP,
    };

    #[inline(always)]
    fn exit_work() -> usize {
        task().thread_flags()
    }

    #[inline(always)]
    fn syscall_work() -> usize {
        task().syscall_work()
    }

    #[inline(always)]
    fn preempt_count() -> usize {
        current::preempt_count()
    }

    #[inline(always)]
    fn syscall(at: &mut InSyscall<'_, Linux>, number: i64) {
        #[cfg(CONFIG_X86_64)]
        syscall::dispatch_64(at.regs(), number as i32);
        #[cfg(not(CONFIG_X86_64))]
        syscall::dispatch_32(at.regs(), number as i32);
    }

    #[inline(always)]
    fn syscall_32(_at: &mut InSyscall<'_, Linux>, _number: u32) {
        #[cfg(any(CONFIG_IA32_EMULATION, not(CONFIG_X86_64)))]
        syscall::dispatch_32(_at.regs(), _number as i32);
    }

    #[inline(always)]
    fn compat_call(_on: bool) {
        // It ends with every exit: see `arch_exit_to_user_mode_prepare`.
        #[cfg(CONFIG_IA32_EMULATION)]
        if _on {
            task().set_status(offsets::STATUS_COMPAT as u32);
        }
    }
}

/// What the log says of it, and the name that belongs to it.
#[cold]
fn describe(broken: Broken) -> (&'static CStr, &'static str) {
    match broken {
        Broken::ArrivedNotFromUser => (c"came from user mode, but the context was not user", ""),
        Broken::LeavingNotFromKernel => (c"going to user mode, but the context is not kernel", ""),
        Broken::InterruptsOn => (c"interrupts are on", ""),
        Broken::Returned { hook, wrong } => (
            match wrong {
                Wrong::InterruptsOff => c"interrupts are off after",
                Wrong::InterruptsOn => c"interrupts are on after",
                Wrong::PreemptionDisabled => c"preemption is disabled after",
                _ => c"wrong context after",
            },
            hook,
        ),
        Broken::NotTaken { work } => (c"nobody takes the exit work", work),
        Broken::RaisedTooLate { hook } => (c"raised work too late:", hook),
        Broken::StateDropped { state } => (c"dropped state", state),
        Broken::UserFlagsInKernel => (c"user flags in the kernel", ""),
        _ => (c"broken invariant", ""),
    }
}

impl ExitHooks for Linux {
    // ---- exit work, in the loop ----

    fn schedule(_at: &mut InKernel<'_, Linux>, work: usize) {
        version::reschedule(work);
    }

    #[cfg(CONFIG_UPROBES)]
    fn uprobe_notify_resume(at: &mut InKernel<'_, Linux>) {
        unsafe { uprobe_notify_resume(at.regs()) }
    }

    #[cfg(CONFIG_LIVEPATCH)]
    fn klp_update_patch_state(_at: &mut InKernel<'_, Linux>) {
        unsafe { portcullis_klp_update_patch_state() }
    }

    fn do_signal_or_restart(at: &mut InKernel<'_, Linux>) {
        version::do_signal_or_restart(at.regs());
    }

    fn resume_user_mode_work(at: &mut InKernel<'_, Linux>) {
        unsafe { portcullis_resume_user_mode_work(at.regs()) }
    }

    // ---- with interrupts off ----

    #[inline(always)]
    fn tick_nohz_user_enter_prepare(_at: &mut Leaving<'_, Linux>) {
        #[cfg(CONFIG_NO_HZ_FULL)]
        if static_branch_unlikely!(context_tracking_key) {
            unsafe { portcullis_tick_nohz_user_enter_prepare() }
        }
    }

    #[inline(always)]
    fn rseq_exit_to_user_mode_restart(at: &mut Settled<'_, Linux>) -> Result<(), portcullis::Again> {
        version::rseq_restart(&raw mut *at.regs())
    }

    #[cfg(CONFIG_RSEQ_SLICE_EXTENSION)]
    #[inline(always)]
    fn rseq_arm_slice_extension_timer(_at: &mut Settled<'_, Linux>) -> Result<(), portcullis::Again> {
        version::arm_slice_extension_timer(task())
    }

    #[cfg(CONFIG_USER_RETURN_NOTIFIER)]
    fn fire_user_return_notifiers(_at: &mut Settled<'_, Linux>) {
        unsafe { fire_user_return_notifiers() }
    }

    #[inline(always)]
    fn arch_exit_to_user_mode_once(_at: &mut Settled<'_, Linux>, work: usize) {
        if work & offsets::TIF_IO_BITMAP_BIT != 0 {
            unsafe { portcullis_tss_update_io_bitmap() }
        }
        #[cfg(CONFIG_X86_DEBUG_FPU)]
        unsafe {
            fpregs_assert_state_consistent();
        }
        if work & offsets::TIF_NEED_FPU_LOAD_BIT != 0 {
            unsafe { switch_fpu_return() }
        }
    }

    #[inline(always)]
    fn arch_exit_to_user_mode_prepare(_at: &mut Settled<'_, Linux>, _work: usize) {
        #[cfg(CONFIG_X86_DEBUG_FPU)]
        if _work & Self::EXIT_WORK.own_once == 0 {
            unsafe { fpregs_assert_state_consistent() }
        }
        // After signals: a restart asks whether the call was a 32-bit one.
        #[cfg(CONFIG_COMPAT)]
        task().clear_status(offsets::STATUS_OF_ONE_CALL as u32);
        version::exit_to_user_mode_prepare();
        if cpu_has!(offsets::FEATURE_IBPB_EXIT_TO_USER) {
            unsafe { portcullis_ibpb_exit_to_user() }
        }
    }

    // ---- back to the kernel ----

    #[inline(always)]
    fn preempt_schedule_irq(_at: &mut Interrupted<'_, Linux>) {
        preempt::cond_resched();
    }
}

impl GuestHooks for Linux {
    fn resume_guest_mode_work(_at: &mut InKernel<'_, Linux>) {
        // Null registers: they are not to be changed.
        unsafe { portcullis_resume_user_mode_work(core::ptr::null_mut()) }
    }
}

impl SyscallHooks for Linux {
    fn syscall_user_dispatch(at: &mut InKernel<'_, Linux>) -> bool {
        user_dispatch::dispatch(at.regs())
    }

    #[cfg(CONFIG_RSEQ_SLICE_EXTENSION)]
    fn rseq_syscall_enter_work(_at: &mut InKernel<'_, Linux>, number: i64) {
        unsafe extern "C" {
            fn rseq_syscall_enter_work(number: isize);
        }
        unsafe { rseq_syscall_enter_work(number as isize) }
    }

    fn ptrace_report_syscall_entry(at: &mut InKernel<'_, Linux>) -> Result<(), Skip> {
        match unsafe { portcullis_ptrace_report_syscall_entry(at.regs()) } {
            0 => Ok(()),
            _ => Err(Skip),
        }
    }

    fn secure_computing(_at: &mut InKernel<'_, Linux>) -> Result<(), Skip> {
        match version::secure_computing() {
            -1 => Err(Skip),
            _ => Ok(()),
        }
    }

    fn trace_sys_enter(at: &mut InKernel<'_, Linux>, number: i64) {
        unsafe { portcullis_trace_sys_enter(at.regs(), number as isize) }
    }

    fn audit_syscall_entry(at: &mut InKernel<'_, Linux>, number: i64) {
        unsafe { portcullis_audit_syscall_entry(at.regs(), number as isize) }
    }

    #[inline(always)]
    fn rseq_syscall(at: &mut InKernel<'_, Linux>) {
        version::rseq_syscall_check(at.regs());
    }

    fn on_user_dispatch(_at: &mut InKernel<'_, Linux>) -> bool {
        let on = task().on_dispatch();
        task().set_on_dispatch(false);
        on
    }

    fn audit_syscall_exit(at: &mut InKernel<'_, Linux>) {
        unsafe { portcullis_audit_syscall_exit(at.regs()) }
    }

    fn trace_sys_exit(at: &mut InKernel<'_, Linux>) {
        unsafe { portcullis_trace_sys_exit(at.regs()) }
    }

    fn ptrace_report_syscall_exit(at: &mut InKernel<'_, Linux>, step: bool) {
        unsafe { portcullis_ptrace_report_syscall_exit(at.regs(), step as i32) }
    }
}

impl Diagnostics for Linux {
    #[inline(always)]
    fn arch_enter_from_user_mode(_regs: &PtRegs) {
        #[cfg(CONFIG_DEBUG_ENTRY)]
        unsafe {
            portcullis_arch_enter_from_user_mode(_regs);
        }
    }

    fn check_before_user_mode(_at: &Settled<'_, Linux>) {
        unsafe { portcullis_check_before_user_mode() }
    }

    fn check_preemption_point() {
        if current::preempt_count() == 0 {
            unsafe { portcullis_check_preemption_point() }
        }
    }
}
