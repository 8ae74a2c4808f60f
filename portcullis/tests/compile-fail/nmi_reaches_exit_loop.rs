//! An NMI that hit the kernel has no way to the exit loop.
include!("kernel.rs.in");
use portcullis::Nmi;

fn handler(nmi: Nmi<'_, UserRegs>) {
    let _cleared = nmi.exit_to_user_mode::<K>();
}

fn main() {}
