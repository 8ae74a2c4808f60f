//! What a 32-bit system call owes on the way out is in its type.
include!("kernel.rs.in");
use portcullis::x86_64::WayOut;

fn door(arrived: Arrived<'_, K, Syscall32>) -> WayOut {
    arrived.syscall_32().exit_to_user_mode_prepare().sysret_or_iret()
}

fn forgets_what_it_was(leaving: Leaving<'_, K, Syscall32>) -> Settled<'_, K, Syscall> {
    leaving.exit_to_user_mode_prepare()
}

fn main() {}
