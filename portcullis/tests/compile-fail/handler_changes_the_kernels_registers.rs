//! Where the kernel was hit and on which stack is not for safe code to change.
#![forbid(unsafe_code)]
include!("kernel.rs.in");

fn interrupted(at: &mut Interrupted<'_, K>) {
    at.regs_mut().rip = 0;
}

fn interrupt(at: &mut InInterrupt<'_, K>) {
    at.regs_mut().rsp = 0;
}

fn nmi(at: &mut NmiContext<'_, K>) {
    at.regs().rip = 0;
}

fn main() {}
