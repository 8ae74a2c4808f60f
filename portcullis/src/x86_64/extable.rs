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
//! `__stop_portcullis_extable`. [`init_cpu`](super::init_cpu) sorts it by address on the first CPU, and makes the offsets relative to
//! the section: a kernel has hundreds of entries, and user programs choose how often one is looked for.

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
    // SAFETY: the linker's symbols bound an array of `Entry`, which nobody else uses yet.
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

/// Where to go on after a fault at `rip`, if that is an instruction that may fault. After [`init_cpu`](super::init_cpu).
pub fn fixup(rip: u64) -> Option<u64> {
    let start = table().cast::<Entry>() as u64;
    // SAFETY: the linker's symbols bound an array of `Entry`, which is not written any more.
    let fixup = find(unsafe { &*table() }, rip.wrapping_sub(start) as i64)?;
    Some(start.wrapping_add_signed(fixup.into()))
}

fn find(entries: &[Entry], instruction: i64) -> Option<i32> {
    let at = entries
        .binary_search_by_key(&instruction, |entry| entry.instruction.into())
        .ok()?;
    entries.get(at).map(|entry| entry.fixup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        // As the assembler leaves them: each offset from its own place. Instructions lie before and after the table.
        let wanted = [(700, 10), (-300, 20), (5, -40), (i32::MIN, 0), (90, 91)];
        let mut entries: Vec<Entry> = (0..)
            .step_by(size_of::<Entry>())
            .zip(wanted)
            .map(|(place, (instruction, fixup)): (i32, _)| Entry {
                instruction: i32::wrapping_sub(instruction, place),
                fixup: fixup - place - 4,
            })
            .collect();
        sort_entries(&mut entries);
        for (instruction, fixup) in wanted {
            let instruction = i64::from(instruction);
            assert_eq!(find(&entries, instruction), Some(fixup));
            assert_eq!(find(&entries, instruction + 1), None);
        }
        assert_eq!((find(&entries, i64::MAX), find(&[], 5)), (None, None));
    }
}
