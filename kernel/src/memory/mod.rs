//! Frames, page tables, address spaces and user-memory access.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | get, share or free a page of memory | [`frames`] |
//! | know where kernel allocations come from | [`heap`], [`stack`], both mapped by [`vmalloc`] |
//! | follow a page fault | [`fault`] |
//! | change what a process has mapped | [`address_space`] and [`remap`] (the operations), [`vma`] (the set of areas) |
//! | take a file's pages out of every process | [`rmap`] |
//! | read the memory of any process, or count it | [`contents`], [`foreign`](crate::memory::remote) |
//! | change how page tables are built, copied or torn down | [`page_table`] |
//! | know what user mode's own page tables map of the kernel | [`isolation`]; [`root`](crate::memory::pgd): where they come from |
//! | know where a 32-bit program's memory ends | [`width`] |
//! | know when a translation is gone on every CPU | [`tlb`] |
//! | read or write user memory | [`user`]; structures that differ between 32- and 64-bit calls: [`longs`](crate::memory::c_long) |
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
pub mod contents;
pub mod fault;
pub mod frames;
pub mod heap;
pub mod isolation;
pub mod ldt;
pub mod map;
pub mod maps;
pub mod page_table;
pub mod pgd;
pub mod pkeys;
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
pub use width::Width;

/// One past the highest user address (Linux's `TASK_SIZE_MAX`): the last page of the lower half is never mapped, so
/// that a SYSCALL instruction cannot end at the first non-canonical address.
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// Where the stack of a new program ends. Not at the very end of user memory, as it is hardly ever in Linux, so that
/// a stack pointer there points to no stack.
pub const STACK_TOP: u64 = USER_END - 16 * PAGE_SIZE;
/// New mappings are placed below this address, the highest first.
pub const MMAP_BASE: u64 = 0x7fff_f7ff_f000;
/// Lowest address that may be mapped (Linux's `vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 65536;

/// `addr` rounded down to a page boundary.
pub const fn page_down(addr: u64) -> u64 {
    addr & !(PAGE_SIZE - 1)
}

/// `addr` rounded up to a page boundary; `None` where that overflows.
pub const fn page_up(addr: u64) -> Option<u64> {
    match addr.checked_add(PAGE_SIZE - 1) {
        Some(end) => Some(page_down(end)),
        None => None,
    }
}

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
