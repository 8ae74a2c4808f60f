//! A state belongs to the CPU, or the task, that is in it.
include!("kernel.rs.in");
use portcullis::InKernel;

fn handler(at: InKernel<'static, UserRegs>) {
    std::thread::spawn(move || {
        let at = at;
        let _leaving = at.irqs_off::<K>();
    });
}

fn main() {}
