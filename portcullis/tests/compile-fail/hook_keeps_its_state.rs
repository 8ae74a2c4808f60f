//! A hook borrows its state; it cannot leave with it.
include!("kernel.rs.in");
use portcullis::{InKernel, Leaving};

fn hook<'r>(at: &mut InKernel<'r, UserRegs>) -> Leaving<'r, UserRegs> {
    (*at).irqs_off::<K>()
}

fn main() {}
