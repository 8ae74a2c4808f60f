//! The part of the kernel's half that is mapped at run time: heap, kernel stacks, and what the firmware left outside of the RAM that
//! it reports.
//!
//! Boot allocates every PDPT of the kernel's half, so what is mapped here is in all address spaces at once. Nothing is
//! ever unmapped, hence no shootdown.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::errno::Result;
use crate::machine::direct_map::{DIRECT_MAP, PAGE_SIZE};
use crate::machine::sync::SpinLock;
use crate::memory::layout::page_down;
use crate::memory::table::Table;
use crate::memory::{frames, isolation, table};

/// Where the heap begins; it may grow to 512 GiB.
pub const HEAP: u64 = 0xffff_c900_0000_0000;
/// Where the kernel stacks begin.
#[cfg(not(any(test, fuzzing)))]
pub const STACKS: u64 = 0xffff_c980_0000_0000;
/// Where tests of the host have them: a process has no upper half.
#[cfg(any(test, fuzzing))]
pub const STACKS: u64 = 0x2100_0000_0000;

/// The direct map has one top-level slot.
const DIRECT_MAP_SIZE: u64 = 512 << 30;

static LOCK: SpinLock<()> = SpinLock::new(());
static KERNEL_PGD: AtomicU64 = AtomicU64::new(0);

/// Physical address of the kernel's own PML4, which has no user half. With page-table isolation what the user's tables map of
/// the kernel is in the PML4 behind it. The first call (at boot) reads it from CR3.
pub fn kernel_pgd() -> u64 {
    match KERNEL_PGD.load(Ordering::Relaxed) {
        0 => {
            let pgd = Cr3::read().0.start_address().as_u64();
            KERNEL_PGD.store(pgd, Ordering::Relaxed);
            pgd
        }
        pgd => pgd,
    }
}

/// The entry for the page at `addr`, with the tables above it; none where a large page maps it.
fn entry(addr: u64) -> Result<Option<&'static AtomicU64>> {
    let mut table = Table::at(kernel_pgd());
    for level in [3, 2, 1] {
        let entry = table.entry(level, addr);
        if entry.load(Ordering::Relaxed) == 0 {
            assert!(level != 3, "boot allocates the PDPTs of the kernel's half");
            let frame = frames::alloc_reserve()?;
            entry.store(frame.into_raw() | table::KERNEL_TABLE.bits(), Ordering::Release);
        }
        let value = entry.load(Ordering::Relaxed);
        if value & Flags::HUGE_PAGE.bits() != 0 {
            return Ok(None);
        }
        table = Table::at(table::address(value));
    }
    Ok(Some(table.entry(0, addr)))
}

/// Maps a new frame of zeros at each page of `start..end`, writable, not executable. Pages that are mapped already
/// keep their frames, so a call that failed with ENOMEM may be repeated.
pub fn map(start: u64, end: u64) -> Result<()> {
    let _guard = LOCK.lock();
    for addr in (start..end).step_by(PAGE_SIZE as usize) {
        let entry = entry(addr)?.expect("no large pages here");
        if entry.load(Ordering::Relaxed) == 0 {
            let flags = table::KERNEL_TABLE | isolation::GLOBAL | Flags::NO_EXECUTE;
            entry.store(frames::alloc_reserve()?.into_raw() | flags.bits(), Ordering::Release);
        }
    }
    Ok(())
}

/// Adds what is missing of the physical range to the direct map, read-only: boot maps RAM there, and the firmware's tables are in
/// memory that is reserved.
pub fn map_firmware(range: Range<u64>) {
    let _guard = LOCK.lock();
    assert!(range.end <= DIRECT_MAP_SIZE, "the firmware's tables at {range:#x?} are beyond the direct map");
    for phys in (page_down(range.start)..range.end).step_by(PAGE_SIZE as usize) {
        let entry = entry(DIRECT_MAP + phys).expect("memory for page tables at boot");
        if let Some(entry) = entry.filter(|entry| entry.load(Ordering::Relaxed) == 0) {
            let flags = Flags::PRESENT | Flags::ACCESSED | isolation::GLOBAL | Flags::NO_EXECUTE;
            entry.store(phys | flags.bits(), Ordering::Release);
        }
    }
}

/// Makes the table at `addr` the kernel's own, with a PDPT for the stacks, which boot would have made. For
/// [`host::memory`](crate::host::memory).
#[cfg(any(test, fuzzing))]
pub fn set_root(addr: u64) {
    KERNEL_PGD.store(addr, Ordering::Relaxed);
    let pdpt = frames::alloc_zeroed().expect("memory").into_raw();
    Table::at(addr).entry(3, STACKS).store(pdpt | table::KERNEL_TABLE.bits(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
