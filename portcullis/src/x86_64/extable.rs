//! Instructions that may fault, and where to continue if they do.
//!
//! An entry is two 32-bit self-relative offsets in the section `portcullis_extable`:
//!
//! ```text
//! .pushsection portcullis_extable, "aR"
//! .balign 4
//! .long (2b - .)      // the instruction that may fault
//! .long (3b - .)      // where to continue
//! .popsection
//! ```
//!
//! The section is retained (`R`); the linker provides its start and end. On the first CPU [`init_cpu`](super::init_cpu) sorts it
//! by address, and makes the offsets relative to the section: a kernel has hundreds of entries, and user programs choose how
//! often one is looked up.

use core::mem::offset_of;
use core::ptr::slice_from_raw_parts_mut;

use super::cpu::without_write_protection;

#[repr(C)]
struct Entry {
    instruction: i32,
    fixup: i32,
}

unsafe extern "C" {
    static __start_portcullis_extable: [Entry; 0];
    static __stop_portcullis_extable: [Entry; 0];
}

/// Where the table is.
fn table() -> *mut [Entry] {
    let start = (&raw const __start_portcullis_extable).cast::<Entry>();
    let stop = (&raw const __stop_portcullis_extable).cast::<Entry>();
    let entries = (stop as usize - start as usize) / size_of::<Entry>();
    slice_from_raw_parts_mut(start.cast_mut(), entries)
}

/// Sorts the table.
///
/// # Safety
/// Once, at boot, before another CPU runs and before [`fixup`] is called; kernel mode, interrupts off; the section is mapped.
pub(super) unsafe fn sort() {
    // SAFETY: the linker's symbols bound an array of `Entry`, which is not used yet.
    unsafe { without_write_protection(|| sort_entries(&mut *table())) }
}

/// Makes the offsets relative to the first entry, and sorts by the instruction.
fn sort_entries(entries: &mut [Entry]) {
    let mut place = 0;
    for entry in &mut *entries {
        entry.instruction = entry.instruction.wrapping_add(place);
        entry.fixup = entry.fixup.wrapping_add(place + offset_of!(Entry, fixup) as i32);
        place += size_of::<Entry>() as i32;
    }
    entries.sort_unstable_by_key(|entry| entry.instruction);
}

/// Where to continue after a fault at `rip`, if the table has that. After [`init_cpu`](super::init_cpu).
pub(super) fn fixup(rip: u64) -> Option<u64> {
    let start = table().cast::<Entry>() as u64;
    // SAFETY: the linker's symbols bound an array of `Entry`, which is not written after `sort`.
    let fixup = find(unsafe { &*table() }, rip.wrapping_sub(start) as i64)?;
    Some(start.wrapping_add_signed(fixup.into()))
}

fn find(entries: &[Entry], instruction: i64) -> Option<i32> {
    let at = entries.binary_search_by_key(&instruction, |entry| entry.instruction.into()).ok()?;
    entries.get(at).map(|entry| entry.fixup)
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/extable.rs"]
mod tests;
