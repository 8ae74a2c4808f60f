//! The current task's flags cannot be kept.
#![forbid(unsafe_code)]
include!("kernel.rs.in");
use portcullis::work::WorkFlags;
use portcullis::x86_64::CpuLocal;

fn keep() -> &'static WorkFlags {
    CpuLocal::with_work(|work| work)
}

fn main() {}
