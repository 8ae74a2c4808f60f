//! A kernel that takes every default: for tests of the doors' machine code, and for the unit tests of `x86_64`.

use portcullis::x86_64::{Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs};
use portcullis::{
    Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine, NmiContext, SyscallHooks,
};

/// With or without page-table isolation.
pub struct Minimal<const ISOLATED: bool>;

impl<const ISOLATED: bool> Machine for Minimal<ISOLATED> {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;
}

impl<const ISOLATED: bool> Kernel for Minimal<ISOLATED> {

    fn exit_work() -> usize {
        0
    }
    fn syscall_work() -> usize {
        0
    }
    fn syscall(_: &mut InSyscall<'_, Self>, _: i64) {}
    fn preempt_count() -> usize {
        0
    }
}

impl<const ISOLATED: bool> ExitHooks for Minimal<ISOLATED> {}
impl<const ISOLATED: bool> SyscallHooks for Minimal<ISOLATED> {}
impl<const ISOLATED: bool> Diagnostics for Minimal<ISOLATED> {}

impl<const ISOLATED: bool> Doors for Minimal<ISOLATED> {
    const IA32_EMULATION: bool = true;
    const PAGE_TABLE_ISOLATION: bool = ISOLATED;
    fn user_exception(_: &mut InKernel<'_, Self>, _: Exception) {}
    fn kernel_exception(_: &mut Interrupted<'_, Self>, _: Exception) {}
    fn interrupt(_: &mut InInterrupt<'_, Self>, _: u8) {}
    fn machine_check(_: &mut NmiContext<'_, Self>) {}
    fn double_fault(_: &SavedRegs, _: u64) -> ! {
        unreachable!()
    }
}
