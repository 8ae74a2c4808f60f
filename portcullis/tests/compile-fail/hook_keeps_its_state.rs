//! A hook borrows its state; it cannot leave with it.
include!("kernel.rs.in");

fn hook<'r>(at: &mut InKernel<'r, K, Event>) -> Leaving<'r, K, Event> {
    (*at).irqs_off()
}

fn main() {}
