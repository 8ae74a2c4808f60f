//! The subject of `tests/codegen.rs`: a system call through the states, and the same by hand.
#![no_std]

use portcullis::machine::{InterruptFlag, Tracking};
use portcullis::x86_64::{CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs, WayOut};
use portcullis::{
    Arrived, Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine,
    NmiContext, Syscall, SyscallHooks,
};

unsafe extern "C" {
    safe fn dispatch(regs: &mut UserRegs, number: i64);
    safe fn broken(arrived: bool);
    safe fn exit_loop(regs: &mut UserRegs, work: usize);
}

/// Slow paths, out of line, as the library has them.
mod slow {
    use super::UserRegs;

    #[cold]
    #[inline(never)]
    pub fn entry_work(regs: &mut UserRegs) -> bool {
        super::exit_loop(regs, 1);
        regs.rax == 0
    }
    #[cold]
    #[inline(never)]
    pub fn exit_work(regs: &mut UserRegs) {
        super::exit_loop(regs, 2);
    }
    #[cold]
    #[inline(never)]
    pub fn broken(what: super::Broken) {
        super::broken(what == super::Broken::ArrivedNotFromUser);
    }
}

struct Subject;

impl Machine for Subject {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;
    fn invariant_broken(what: Broken) {
        slow::broken(what);
    }
}

impl Kernel for Subject {
    fn exit_work() -> usize {
        CpuLocal::exit_word()
    }
    fn syscall_work() -> usize {
        CpuLocal::syscall_word()
    }
    fn any_syscall_work() -> bool {
        CpuLocal::any_syscall_work()
    }
    fn any_work() -> bool {
        CpuLocal::any_work()
    }
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        dispatch(at.regs(), number);
    }
    fn preempt_count() -> usize {
        0
    }
}

impl ExitHooks for Subject {
    fn schedule(at: &mut InKernel<'_, Self>, _work: usize) {
        exit_loop(at.regs(), 0);
    }
}
impl SyscallHooks for Subject {}
impl Diagnostics for Subject {}
impl Doors for Subject {
    fn user_exception(_: &mut InKernel<'_, Self>, _: Exception) {}
    fn kernel_exception(_: &mut Interrupted<'_, Self>, _: Exception) {}
    fn interrupt(_: &mut InInterrupt<'_, Self>, _: u8) {}
    fn machine_check(_: &mut NmiContext<'_, Self>) {}
    fn double_fault(_: &SavedRegs, _: u64) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }
}

/// Through the states.
///
/// # Safety
/// As a door's Rust half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn typed(regs: &mut UserRegs) -> WayOut {
    // SAFETY: the caller's.
    let arrived: Arrived<'_, Subject, Syscall> = unsafe { Arrived::enter_from_user_mode(regs) };
    arrived.syscall_and_exit_work().sysret_or_iret()
}

/// The same without types: what one would write by hand.
///
/// # Safety
/// As a door's Rust half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn by_hand(regs: &mut UserRegs) -> u8 {
    /// The door's end looks whether it is possible.
    const SYSRET: u8 = 1;

    // SAFETY: the caller's.
    unsafe {
        if !PerCpuContext::user_to_kernel() {
            slow::broken(Broken::ArrivedNotFromUser);
        }
        Rflags::on();
    }
    let mut skip = false;
    if CpuLocal::any_syscall_work() {
        skip = slow::entry_work(regs);
    }
    if !skip {
        dispatch(regs, regs.orig_rax as i32 as i64);
    }
    Rflags::off();
    if CpuLocal::any_work() {
        slow::exit_work(regs);
    }
    // SAFETY: the caller's.
    if !unsafe { PerCpuContext::kernel_to_user() } {
        slow::broken(Broken::LeavingNotFromKernel);
    }
    SYSRET
}
