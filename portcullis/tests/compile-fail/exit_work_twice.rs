//! The exit work runs once per crossing.
include!("kernel.rs.in");
use portcullis::x86_64::WayOut;

fn door(leaving: Leaving<'_, K, Event>) -> WayOut {
    let _first = leaving.exit_to_user_mode_prepare();
    leaving.exit_to_user_mode_prepare().iret()
}

fn main() {}
