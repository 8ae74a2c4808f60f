//! Where things are in user memory.

use crate::machine::direct_map::PAGE_SIZE;

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
