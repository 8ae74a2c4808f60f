//! An NMI that hit the kernel has no way to the exit loop.
include!("kernel.rs.in");

fn handler(nmi: NmiContext<'_, K>) {
    let _settled = nmi.exit_to_user_mode_prepare();
}

fn main() {}
