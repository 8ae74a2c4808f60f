//! What is cleared goes out by the door; it cannot be kept beyond the crossing.
include!("kernel.rs.in");
use portcullis::{Cleared, Leaving};
use portcullis::x86_64::WayOut;

static mut KEPT: Option<Cleared<'static, UserRegs>> = None;

fn door(leaving: Leaving<'_, UserRegs>) -> WayOut {
    unsafe { KEPT = Some(leaving.exit_to_user_mode::<K>()) };
    unsafe { KEPT.take() }.unwrap().iret()
}

fn main() {}
