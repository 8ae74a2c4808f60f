//! What a filter looks at.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::task::seccomp::bpf;

/// What a filter looks at: `struct seccomp_data`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Data {
    /// The number.
    pub number: i32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The address after the system-call instruction.
    pub instruction_pointer: u64,
    /// The arguments.
    pub args: [u64; 6],
}
const _: () = assert!(size_of::<Data>() == bpf::DATA_SIZE as usize);

impl Data {
    /// As the words that programs load.
    pub fn words(&self) -> [u32; bpf::DATA_SIZE as usize / 4] {
        zerocopy::transmute!(*self)
    }
}
