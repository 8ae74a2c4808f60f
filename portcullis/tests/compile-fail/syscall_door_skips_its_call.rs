//! A door for system calls cannot leave as one for events, nor turn interrupts on by itself.
include!("kernel.rs.in");

fn handled(arrived: Arrived<'_, K, Syscall>) -> Leaving<'_, K, Event> {
    arrived.handled()
}

fn by_itself(arrived: Arrived<'_, K, Syscall>) -> Leaving<'_, K, Event> {
    arrived.irqs_on().irqs_off()
}

fn main() {}
