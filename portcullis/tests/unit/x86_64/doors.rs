use super::*;
use crate::kernel::{Diagnostics, ExitHooks, Kernel, SyscallHooks};
use crate::state::InSyscall;
use crate::x86_64::{PerCpuContext, Rflags};

/// A kernel that does nothing, for tests of the doors' code.
pub struct Nothing;

impl Machine for Nothing {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;
}

impl Kernel for Nothing {
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
impl ExitHooks for Nothing {}
impl SyscallHooks for Nothing {}
impl Diagnostics for Nothing {}

impl Doors for Nothing {
    fn user_exception(_: &mut InKernel<'_, Self>, _: Exception) {}
    fn kernel_exception(_: &mut Interrupted<'_, Self>, _: Exception) {}
    fn interrupt(_: &mut InInterrupt<'_, Self>, _: u8) {}
    fn machine_check(_: &mut NmiContext<'_, Self>) {}
    fn double_fault(_: &SavedRegs, _: u64) -> ! {
        unreachable!()
    }
}
