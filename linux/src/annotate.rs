//! Where code may be traced, probed and instrumented, for objtool to check (Linux: `instrumentation_begin()`).
//!
//! Between a door and the context KERNEL nothing may: RCU is not watching. The functions there are in `.noinstr.text`. One
//! convention holds in this crate: instrumentation begins at the end of a transition into the kernel
//! ([`tracking`](crate::tracking)) and ends at the start of the one out of it, so that the library's code between them is
//! covered. A function that ends in between says so itself.

/// Instrumentation is allowed from here on.
#[inline(always)]
pub fn begin() {
    #[cfg(CONFIG_NOINSTR_VALIDATION)]
    // SAFETY: one instruction that does nothing, and a note for objtool.
    unsafe {
        core::arch::asm!("998: nop", instrumentation_begins!("998b"));
    }
}

/// Instrumentation is no longer allowed.
#[inline(always)]
pub fn end() {
    #[cfg(CONFIG_NOINSTR_VALIDATION)]
    // SAFETY: one instruction that does nothing, and a note for objtool. Without the instruction the note would be taken
    // for one about whatever comes next.
    unsafe {
        core::arch::asm!("999: nop", instrumentation_ends!("999b"));
    }
}
