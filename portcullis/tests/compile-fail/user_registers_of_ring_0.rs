//! IRET with a user's registers enters user mode: nobody writes CS, SS or RFLAGS but through what keeps them a user's.
#![forbid(unsafe_code)]
include!("kernel.rs.in");

fn hook(at: &mut InKernel<'_, K>) {
    at.regs().cs = 0x10;
    at.regs().ss = 0x18;
    at.regs().rflags |= 3 << 12;
}

fn from_scratch() -> UserRegs {
    UserRegs { cs: 0x10, ..UserRegs::new(0, 0) }
}

fn main() {}
