//! What hit the kernel goes back to the kernel.
include!("kernel.rs.in");

fn handler(interrupted: Interrupted<'_, K>) {
    let _leaving = interrupted.irqs_off();
}

fn main() {}
