//! Segment registers: numbers that each thread has. FS and GS of the process are the host's own.
//!
//! In place of `machine::segments`' `registers`.

use std::cell::Cell;

use portcullis::x86_64::segments::{BadSelector, Segment};

use crate::machine::{cpu, descriptor};
use crate::memory::address_space::current_mm;

#[derive(Clone, Copy, Default)]
struct Registers {
    selectors: [u16; 4],
    fs_base: u64,
    gs_base: u64,
}

thread_local! {
    static REGISTERS: Cell<Registers> = Cell::default();
}

fn change(change: impl FnOnce(&mut Registers)) {
    REGISTERS.with(|cell| {
        let mut registers = cell.get();
        change(&mut registers);
        cell.set(registers);
    });
}

/// There is nothing to look at.
pub fn init() {}

/// The bases are kept as with FSGSBASE.
pub fn has_fsgsbase() -> bool {
    true
}

/// The base of FS.
pub fn fs_base() -> u64 {
    REGISTERS.with(|cell| cell.get().fs_base)
}

/// Sets it.
pub fn set_fs_base(base: u64) {
    change(|registers| registers.fs_base = base);
}

/// The base of GS.
pub fn gs_base() -> u64 {
    REGISTERS.with(|cell| cell.get().gs_base)
}

/// Sets it.
pub fn set_gs_base(base: u64) {
    change(|registers| registers.gs_base = base);
}

/// The selectors in DS, ES, FS and GS.
pub fn selectors() -> [u16; 4] {
    REGISTERS.with(|cell| cell.get().selectors)
}

/// FS becomes null.
pub fn clear_fs() {
    change(|registers| registers.selectors[2] = 0);
}

/// What a selector names: an entry of the LDT, or the flat data segment.
fn descriptor(selector: u16) -> Option<u64> {
    const FLAT: u64 = 0x00cf_f300_0000_ffff;
    if selector & descriptor::LOCAL == 0 {
        return (selector >> 3 == portcullis::x86_64::tables::USER_DS >> 3).then_some(FLAT);
    }
    if cpu::address_space().is_null() {
        return None;
    }
    let entry = current_mm().ldt().descriptor(selector >> 3);
    const PRESENT: u64 = 1 << 47;
    (entry & PRESENT != 0).then_some(entry)
}

/// Loads a segment register, null where the selector names nothing.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn load(segment: Segment, selector: u16) -> Result<(), BadSelector> {
    let found = if selector <= 3 { Some(0) } else { descriptor(selector) };
    let (selector, base) = found.map_or((0, 0), |entry| (selector, descriptor::base(entry)));
    change(|registers| match segment {
        Segment::Ds => registers.selectors[0] = selector,
        Segment::Es => registers.selectors[1] = selector,
        Segment::Fs => (registers.selectors[2], registers.fs_base) = (selector, base),
        Segment::Gs => (registers.selectors[3], registers.gs_base) = (selector, base),
    });
    if found.is_some() { Ok(()) } else { Err(BadSelector) }
}
