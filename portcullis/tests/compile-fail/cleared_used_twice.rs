//! One crossing has one way out.
include!("kernel.rs.in");
use portcullis::x86_64::WayOut;

fn door(settled: Settled<'_, K, Syscall>) -> [WayOut; 2] {
    [settled.sysret_or_iret(), settled.iret()]
}

fn main() {}
