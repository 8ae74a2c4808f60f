//! What hit the kernel goes back to the kernel.
include!("kernel.rs.in");
use portcullis::Interrupted;

fn handler(interrupted: Interrupted<'_, UserRegs>) {
    let _leaving = interrupted.irqs_off::<K>();
}

fn main() {}
