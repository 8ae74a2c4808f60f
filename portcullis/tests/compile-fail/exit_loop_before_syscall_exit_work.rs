//! A system call's one way on runs its exit work first.
include!("kernel.rs.in");
use portcullis::Cleared;

fn door(at: InSyscall<'_, UserRegs>) -> Cleared<'_, UserRegs> {
    at.irqs_off::<K>().exit_to_user_mode::<K>()
}

fn main() {}
