//! Probes in user code.
use portcullis::x86_64::UserRegs;
/// What a task keeps.
#[derive(Default)]
pub struct TaskProbe;
/// The hook.
pub fn notify_resume(_regs: &mut UserRegs) {}
