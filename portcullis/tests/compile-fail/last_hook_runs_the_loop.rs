//! The hooks after the last read cannot run the loop, nor anything else that turns interrupts on.
include!("kernel.rs.in");

fn hook(at: &mut Settled<'_, K>) {
    at.irqs_on();
    at.exit_to_user_mode_prepare();
}

fn main() {}
