//! The subject of `tests/codegen.rs`: a system call through the states, and the same by hand.
#![no_std]

use portcullis::host::{InterruptFlag, Tracking};
use portcullis::work::{ExitWorkBits, SyscallWorkBits};
use portcullis::x86_64::sysret::sysret_is_equivalent;
use portcullis::x86_64::{CpuLocal, PerCpuContext, Rflags, UserRegs, WayOut};
use portcullis::{Arrived, Broken, InKernel, InSyscall, Kernel, Leaving};

unsafe extern "C" {
    safe fn dispatch(regs: &mut UserRegs, number: i64);
    safe fn broken(what: u32);
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
    pub fn exit_loop(regs: &mut UserRegs, work: usize) {
        super::exit_loop(regs, work);
    }
    #[cold]
    #[inline(never)]
    pub fn broken(what: super::Broken) {
        super::broken(what as u32);
    }
}

struct Subject;

impl Kernel for Subject {
    type Regs = UserRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;

    fn exit_work() -> usize {
        CpuLocal::work().exit_word()
    }
    fn syscall_work() -> usize {
        CpuLocal::work().syscall_word()
    }
    fn syscall(at: &mut InSyscall<'_, UserRegs>, number: i64) {
        dispatch(at.regs(), number);
    }
    fn preempt_count() -> usize {
        0
    }
    fn schedule(at: &mut InKernel<'_, UserRegs>) {
        exit_loop(at.regs(), 0);
    }
    fn invariant_broken(what: Broken) {
        broken(what as u32);
    }
}

/// Through the states.
///
/// # Safety
/// As a door's Rust half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn typed(regs: &mut UserRegs) -> WayOut {
    // SAFETY: the caller's.
    let arrived: Arrived<'_, UserRegs> = unsafe { Arrived::enter_from_user_mode::<Subject>(regs) };
    let leaving: Leaving<'_, UserRegs> = arrived.syscall::<Subject>();
    leaving.exit_to_user_mode::<Subject>().sysret_or_iret(47)
}

/// The same without types: what one would write by hand.
///
/// # Safety
/// As a door's Rust half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn by_hand(regs: &mut UserRegs) -> u8 {
    const EXIT: ExitWorkBits = ExitWorkBits::DEFAULT;
    const SYSCALL: SyscallWorkBits = SyscallWorkBits::DEFAULT;

    if !PerCpuContext::user_to_kernel() {
        slow::broken(Broken::ArrivedNotFromUser);
    }
    Rflags::on();
    let mut skip = false;
    if CpuLocal::work().syscall_word() & SYSCALL.at_entry() != 0 {
        skip = slow::entry_work(regs);
    }
    if !skip {
        dispatch(regs, regs.orig_rax as i32 as i64);
    }
    if CpuLocal::work().syscall_word() & SYSCALL.at_exit() != 0 {
        slow::exit_work(regs);
    }
    Rflags::off();
    let work = CpuLocal::work().exit_word();
    if work & EXIT.all() != 0 {
        slow::exit_loop(regs, work);
    }
    if !PerCpuContext::kernel_to_user() {
        slow::broken(Broken::LeavingNotFromKernel);
    }
    sysret_is_equivalent(regs, 47) as u8
}
