//! What the boot processor leaves for the others, and where they begin.

use core::sync::atomic::AtomicU64;

use crate::machine::cpu::MAX_CPUS;

/// Where the trampoline is copied to: a page below 1 MiB, which the start-up IPI names by its number.
pub const TRAMPOLINE: u64 = 0x8000;

unsafe extern "C" {
    /// The trampoline's first byte in the image.
    pub static ap_trampoline: u8;
    /// One past its last byte.
    pub static ap_trampoline_end: u8;
}

/// What the assembly hands to the other processors: the final page tables, and a stack for each.
#[repr(C)]
pub struct ApHandover {
    /// Value for CR3.
    pub cr3: AtomicU64,
    /// The next free entry of `stacks`; each processor takes one with a locked add.
    pub ticket: AtomicU64,
    /// Stack tops.
    pub stacks: [AtomicU64; MAX_CPUS],
}

/// What `entry` reads on each application processor.
pub static HANDOVER: ApHandover =
    ApHandover { cr3: AtomicU64::new(0), ticket: AtomicU64::new(0), stacks: [const { AtomicU64::new(0) }; MAX_CPUS] };
