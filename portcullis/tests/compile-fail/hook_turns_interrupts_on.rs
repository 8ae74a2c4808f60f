//! Safe code cannot turn interrupts on where a state says that they are off.
#![forbid(unsafe_code)]
include!("kernel.rs.in");
use portcullis::machine::InterruptFlag;

fn last_hook(_: &mut Settled<'_, K>) {
    Rflags::on();
}

fn nmi(_: &mut NmiContext<'_, K>) {
    portcullis::x86_64::halt::wait_for_interrupt();
}

fn main() {}
