//! Page-table isolation, with the feature of that name. What user mode's tables map of the kernel is in [`user_table`](crate::memory::user_table).

use portcullis::x86_64::isolation::USER_TABLE;
use x86_64::structures::paging::PageTableFlags as Flags;

/// Whether user mode runs on page tables of its own.
pub const ON: bool = cfg!(feature = "isolation");

/// The flag of a page whose translation stays when CR3 is loaded. With isolation there is no such page.
pub const GLOBAL: Flags = if ON { Flags::empty() } else { Flags::GLOBAL };

/// The user's top-level table of the address space whose kernel's one is at `pgd`.
pub const fn user_pgd(pgd: u64) -> u64 {
    if ON { pgd | USER_TABLE } else { pgd }
}
