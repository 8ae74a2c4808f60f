//! A door that leaves without the exit work has nothing to return.
include!("kernel.rs.in");
use portcullis::Arrived;
use portcullis::x86_64::WayOut;

fn door(arrived: Arrived<'_, UserRegs>) -> WayOut {
    arrived.irqs_on::<K>().irqs_off::<K>().iret()
}

fn main() {}
