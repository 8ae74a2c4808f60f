//! A page table of any level.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use x86_64::structures::paging::PageTableFlags as Flags;

use crate::machine::direct_map::{PAGE_SIZE, phys_to_virt};

/// Flags of an entry that leads to a table, or to a page of the kernel.
pub const KERNEL_TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::ACCESSED).union(Flags::DIRTY);
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The physical address in an entry.
#[inline]
pub fn address(entry: u64) -> u64 {
    entry & ADDRESS
}

/// Bytes that one entry of a table of `level` covers; level 0 is the page table.
pub const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * level)
}

/// A table of any level, in the direct map.
#[derive(Clone, Copy)]
pub struct Table(pub &'static [AtomicU64; 512]);

impl Table {
    /// The table at physical address `addr`.
    #[inline]
    pub fn at(addr: u64) -> Table {
        // SAFETY: entries lead to tables only, which are whole frames in the direct map. A table is freed only under the
        // lock of the address space, after the entry that leads to it is gone, and no `Table` outlives that lock.
        Table(unsafe { &*phys_to_virt(addr).cast() })
    }

    /// The entry for `addr` in this table of `level`.
    #[inline]
    pub fn entry(&self, level: u32, addr: u64) -> &'static AtomicU64 {
        &self.0[((addr >> (12 + 9 * level)) & 511) as usize]
    }

    /// The table that the entry for `addr` leads to.
    #[inline]
    pub fn child(&self, level: u32, addr: u64) -> Option<Table> {
        match self.entry(level, addr).load(Relaxed) {
            0 => None,
            entry => Some(Table::at(address(entry))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_spans_512_of_the_one_below() {
        assert_eq!([0, 1, 2, 3].map(span), [4096, 2 << 20, 1 << 30, 512 << 30]);
    }
}
