//! Nothing is watched while a debug exception or an NMI is handled in the kernel.
//!
//! The debug registers hold what the user's debugger wants watched. A handler that touches that would be hit by another
//! debug exception: on the stack that the first one is using, or with NMIs let in again by its IRET.

use core::arch::asm;

/// The bit of DR7 that always reads as 1 (SDM volume 3, 17.2.4).
const FIXED: u64 = 1 << 10;

/// While it lives, this CPU watches nothing. Interrupts are off all the time.
pub(super) struct Unwatched {
    /// DR7, or 0 where nothing was watched.
    control: u64,
}

impl Unwatched {
    /// Takes DR7 down, if anything is in it.
    #[inline(always)]
    pub(super) fn new() -> Self {
        let control: u64;
        // SAFETY: kernel mode.
        unsafe { asm!("mov {}, dr7", out(reg) control, options(nomem, nostack, preserves_flags)) };
        let control = control & !FIXED;
        if control != 0 {
            write(0);
        }
        Unwatched { control }
    }
}

impl Drop for Unwatched {
    #[inline(always)]
    fn drop(&mut self) {
        if self.control != 0 {
            write(self.control);
        }
    }
}

#[inline(always)]
fn write(control: u64) {
    // SAFETY: kernel mode; either nothing is watched, or what was before. Not `nomem`: what is done meanwhile stays inside.
    unsafe { asm!("mov dr7, {}", in(reg) control, options(nostack, preserves_flags)) }
}
