//! A system call's one way on does its work at exit first.
include!("kernel.rs.in");

fn door(at: InSyscall<'_, K, Syscall>) -> Settled<'_, K, Syscall> {
    at.irqs_off().exit_to_user_mode_prepare()
}

fn main() {}
