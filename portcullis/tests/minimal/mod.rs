//! A kernel that takes every default: for tests of the doors' machine code, and for the unit tests of `x86_64`.

use std::cell::RefCell;
use std::marker::PhantomData;

use portcullis::machine::InterruptFlag;
use portcullis::x86_64::{Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs};
use portcullis::{
    Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine, NmiContext,
    SyscallHooks,
};

/// With or without page-table isolation, with the interrupt flag `I`, with or without FRED.
pub struct Minimal<const ISOLATED: bool, I = Rflags, const FRED: bool = false>(PhantomData<I>);

thread_local! {
    /// What was reported to it on this thread.
    pub static REPORTED: RefCell<Vec<Broken>> = const { RefCell::new(Vec::new()) };
}

impl<const ISOLATED: bool, I: InterruptFlag + 'static, const FRED: bool> Machine for Minimal<ISOLATED, I, FRED> {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = I;
    type Context = PerCpuContext;

    fn invariant_broken(broken: Broken) {
        REPORTED.with_borrow_mut(|reported| reported.push(broken));
    }
}

impl<const ISOLATED: bool, I: InterruptFlag + 'static, const FRED: bool> Kernel for Minimal<ISOLATED, I, FRED> {
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

impl<const ISOLATED: bool, I: InterruptFlag + 'static, const FRED: bool> ExitHooks for Minimal<ISOLATED, I, FRED> {}
impl<const ISOLATED: bool, I: InterruptFlag + 'static, const FRED: bool> SyscallHooks for Minimal<ISOLATED, I, FRED> {}
impl<const ISOLATED: bool, I: InterruptFlag + 'static, const FRED: bool> Diagnostics for Minimal<ISOLATED, I, FRED> {}

impl<const ISOLATED: bool, I: InterruptFlag + 'static, const FRED: bool> Doors for Minimal<ISOLATED, I, FRED> {
    const IA32_EMULATION: bool = true;
    const PAGE_TABLE_ISOLATION: bool = ISOLATED;
    const FRED: bool = FRED;
    fn user_exception(_: &mut InKernel<'_, Self>, _: Exception) {}
    fn kernel_exception(_: &mut Interrupted<'_, Self>, _: Exception) {}
    fn interrupt(_: &mut InInterrupt<'_, Self>, _: u8) {}
    fn machine_check(_: &mut NmiContext<'_, Self>) {}
    fn double_fault(_: &SavedRegs, _: u64) -> ! {
        unreachable!()
    }
}
