//! Frames, page tables, address spaces and user-memory access.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | get, share or free a page of memory | [`frames`] |
//! | know where kernel allocations come from | [`heap`], [`stack`], both mapped by [`vmalloc`] |
//! | follow a page fault | [`fault`] |
//! | change what a process has mapped | [`map`] and [`remap`] (the operations), [`address_space`], [`vma`] (the set of areas) |
//! | take a file's pages out of every process | [`rmap`] |
//! | read the memory of any process, or count it | [`contents`], [`remote`] |
//! | change how page tables are built, copied or torn down | [`page_table`] |
//! | know what user mode's own page tables map of the kernel | [`user_table`]; where they come from [`pgd`] |
//! | know where a 32-bit program's memory ends | [`width`] |
//! | number the threads that run at the same time | [`concurrency_ids`] |
//! | know when a translation is gone on every CPU | [`tlb`] |
//! | read or write user memory | [`user`]; structures that differ between 32- and 64-bit calls: [`c_long`] |
//!
//! Lock order: address space, then shared memory objects, then heap, kernel map, frames. A lock is a spin lock that
//! keeps interrupts off; code that spins or waits calls [`tlb::service_pending`], so that a CPU that waits for a
//! shootdown never waits for a CPU that waits for it.

pub mod access;
pub mod address_space;
pub mod backing;
pub mod boot_tables;
pub mod c_long;
pub mod callbacks;
pub mod concurrency_ids;
pub mod contents;
pub mod fault;
pub mod frames;
pub mod heap;
pub mod isolation;
pub mod layout;
pub mod ldt;
pub mod map;
pub mod maps;
pub mod page_table;
pub mod pgd;
pub mod pkeys;
pub mod placement;
pub mod remap;
pub mod remote;
pub mod rmap;
pub mod shared;
pub mod stack;
pub mod table;
pub mod tlb;
pub mod user;
pub mod user_table;
pub mod vma;
pub mod vmalloc;
pub mod width;

use core::sync::atomic::{AtomicU64, Ordering};

pub use crate::machine::direct_map::{DIRECT_MAP, PAGE_SIZE, phys_to_virt};
pub use layout::*;
pub use width::Width;

/// A new number for an inode or a memory object: none has it so far.
pub fn new_ino() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn no_inode_number_is_given_twice() {
        let mut numbers: Vec<u64> = (0..100).map(|_| new_ino()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 100);
    }

    #[test]
    fn page_rounding_is_exact_at_boundaries_and_none_at_the_top() {
        assert_eq!((page_down(0x1fff), page_down(0x2000)), (0x1000, 0x2000));
        assert_eq!((page_up(0x1001), page_up(0x1000), page_up(0)), (Some(0x2000), Some(0x1000), Some(0)));
        assert_eq!(page_up(u64::MAX - 4095), Some(u64::MAX - 4095));
        assert_eq!(page_up(u64::MAX - 4094), None);
    }
}
