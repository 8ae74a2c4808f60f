//! Instructions that may fault, and where to go on if they do.
//!
//! An entry is two 32-bit self-relative offsets in the section `portcullis_extable`:
//!
//! ```text
//! .pushsection portcullis_extable, "aR"
//! .balign 4
//! .long (2b - .)      // the instruction that may fault
//! .long (3b - .)      // where to go on
//! .popsection
//! ```
//!
//! The section is retained (`R`); the linker provides `__start_portcullis_extable` and
//! `__stop_portcullis_extable`.

#[repr(C)]
struct Entry {
    instruction: i32,
    fixup: i32,
}

unsafe extern "C" {
    static __start_portcullis_extable: [Entry; 0];
    static __stop_portcullis_extable: [Entry; 0];
}

/// Where to go on after a fault at `rip`, if that is an instruction that may fault.
pub fn fixup(rip: u64) -> Option<u64> {
    let mut entry = (&raw const __start_portcullis_extable).cast::<Entry>();
    let stop = (&raw const __stop_portcullis_extable).cast::<Entry>();
    while entry < stop {
        // SAFETY: the linker's symbols bound an array of `Entry`.
        let (instruction, fixup, next) = unsafe {
            (
                target(&raw const (*entry).instruction),
                target(&raw const (*entry).fixup),
                entry.add(1),
            )
        };
        if instruction == rip {
            return Some(fixup);
        }
        entry = next;
    }
    None
}

/// # Safety
/// `offset` points to a self-relative offset.
unsafe fn target(offset: *const i32) -> u64 {
    // SAFETY: the caller's.
    (offset as u64).wrapping_add_signed(unsafe { *offset } as i64)
}
