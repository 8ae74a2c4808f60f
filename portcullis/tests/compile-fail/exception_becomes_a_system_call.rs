//! An exception does no system-call work.
include!("kernel.rs.in");

fn at_arrival(arrived: Arrived<'_, K, Event>) -> Leaving<'_, K, Syscall> {
    arrived.syscall()
}

fn later(at: InKernel<'_, K, Event>) -> InSyscall<'_, K, Event> {
    at.in_syscall()
}

fn main() {}
