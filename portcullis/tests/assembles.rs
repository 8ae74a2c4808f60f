//! The doors assemble and link for a kernel that takes every default.
#![cfg(not(loom))]

use portcullis::x86_64::{
    CpuDescription, Doors, Exception, PerCpuContext, Rflags, UserRegs, first_way_out, init_cpu,
};
use portcullis::{InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Nmi};

struct Minimal;

impl Kernel for Minimal {
    type Regs = UserRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;

    fn exit_work() -> usize {
        0
    }
    fn syscall_work() -> usize {
        0
    }
    fn syscall(_: &mut InSyscall<'_, UserRegs>, _: i64) {}
    fn preempt_count() -> usize {
        0
    }
}

impl Doors for Minimal {
    fn user_exception(_: &mut InKernel<'_, UserRegs>, _: Exception) {}
    fn kernel_exception(_: &mut Interrupted<'_, UserRegs>, _: Exception) {}
    fn interrupt(_: &mut InInterrupt<'_, UserRegs>, _: u8) {}
    fn machine_check(_: &mut Nmi<'_, UserRegs>) {}
    fn double_fault(_: &UserRegs, _: u64) -> ! {
        unreachable!()
    }
}

#[test]
fn every_door_links() {
    let init: unsafe fn(CpuDescription) -> _ = init_cpu::<Minimal>;
    let first: unsafe extern "C" fn() = first_way_out::<Minimal>;
    assert_ne!(init as usize, first as usize);
}
