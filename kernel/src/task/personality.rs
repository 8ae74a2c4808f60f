//! What personality(2) asks for: how memory is laid out, and what calls do otherwise than Linux's of today.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bitflags::bitflags;

bitflags! {
    /// The bits of `include/uapi/linux/personality.h` that mean something here. The others are kept for those who ask.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Personality: u32 {
        /// Memory is where it always is (ADDR_NO_RANDOMIZE).
        const NO_RANDOMIZE = 0x0004_0000;
        /// Has no effect: the lowest pages cannot be mapped (MMAP_PAGE_ZERO).
        const PAGE_ZERO = 0x0010_0000;
        /// Mappings are placed upwards (ADDR_COMPAT_LAYOUT).
        const COMPAT_LAYOUT = 0x0020_0000;
        /// What may be read may be executed (READ_IMPLIES_EXEC). A 64-bit program does not begin with it.
        const READ_IMPLIES_EXEC = 0x0040_0000;
        /// select does not write the time that is left (STICKY_TIMEOUTS).
        const STICKY_TIMEOUTS = 0x0400_0000;
        /// What a program that changes ids does not inherit (PER_CLEAR_ON_SETID).
        const CLEARED_ON_SETID = 0x0074_0000;
    }
}

/// How the areas of a new program are placed, by default: 0 where they always are, 1 at random places, 2 that of brk(2) too
/// (`kernel.randomize_va_space`, settable on the command line as in Linux).
static RANDOMIZE: AtomicU32 = AtomicU32::new(0);

/// `kernel.randomize_va_space`.
pub fn randomize_va_space() -> u32 {
    RANDOMIZE.load(Relaxed)
}

/// Sets it. Linux takes any number: others are as 2.
pub fn set_randomize_va_space(level: u32) {
    RANDOMIZE.store(level, Relaxed);
}
