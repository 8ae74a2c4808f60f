//! What is settled goes out by the door; it cannot be kept beyond the crossing.
include!("kernel.rs.in");
use portcullis::x86_64::WayOut;

static mut KEPT: Option<Settled<'static, K, Event>> = None;

fn door(leaving: Leaving<'_, K, Event>) -> WayOut {
    unsafe { KEPT = Some(leaving.exit_to_user_mode_prepare()) };
    unsafe { KEPT.take() }.unwrap().iret()
}

fn main() {}
