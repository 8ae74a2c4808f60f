//! Safe code cannot move the context, of this CPU or another.
#![forbid(unsafe_code)]
include!("kernel.rs.in");
use portcullis::context::{Context, idle};
use portcullis::machine::Tracking;
use portcullis::x86_64::CpuLocal;

fn by_the_trait(_: &mut InKernel<'_, K>) {
    PerCpuContext::kernel_to_user();
}

fn by_the_word(_: &mut InKernel<'_, K>) {
    CpuLocal::this().context().move_to(Context::Kernel, Context::User);
}

fn by_the_field(_: &mut InKernel<'_, K>) {
    let _ = &CpuLocal::this().context;
}

fn by_the_idle_loop(_: &mut InKernel<'_, K>) {
    idle::<K>(|| ());
}

fn by_a_guest(entering: portcullis::state::EnteringGuest<'_, K>) {
    entering.run(|| ());
}

fn main() {}
