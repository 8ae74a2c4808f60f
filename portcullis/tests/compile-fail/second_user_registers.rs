//! There is one mutable reference to the registers of a crossing, and none while they are lent.
#![forbid(unsafe_code)]
include!("kernel.rs.in");

fn two(at: &mut InKernel<'_, K>) {
    let one = at.regs();
    let other = at.regs();
    (one.rax, other.rax) = (0, 0);
}

fn while_lent(at: &mut InKernel<'_, K>) {
    let lent = at.lend_regs();
    at.regs().rax = 0;
    let _tracer = lent.as_ptr();
}

fn main() {}
