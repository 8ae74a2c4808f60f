//! The exit work runs once per crossing.
include!("kernel.rs.in");
use portcullis::Leaving;
use portcullis::x86_64::WayOut;

fn door(leaving: Leaving<'_, UserRegs>) -> WayOut {
    let _first = leaving.exit_to_user_mode::<K>();
    leaving.exit_to_user_mode::<K>().iret()
}

fn main() {}
