//! Only what has left makes a way out.
include!("kernel.rs.in");
use portcullis::x86_64::WayOut;

fn door(_: &mut UserRegs) -> WayOut {
    WayOut(0)
}

fn main() {}
