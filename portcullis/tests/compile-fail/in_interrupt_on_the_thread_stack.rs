//! Only a door makes the state of an interrupt handler.
#![forbid(unsafe_code)]
include!("kernel.rs.in");

fn preempted(at: &mut Interrupted<'_, K>) {
    K::interrupt(&mut at.in_interrupt(), 0x20);
}

fn main() {}
