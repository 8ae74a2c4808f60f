//! A state belongs to one kernel: its hooks run.
include!("kernel.rs.in");

fn door<Other: Gate<Regs = UserRegs>>(leaving: Leaving<'_, K, Event>) -> Settled<'_, Other, Event> {
    leaving.exit_to_user_mode_prepare()
}

fn main() {}
