//! Page-table isolation: user mode runs on a page table of its own, which maps little of the kernel. The contract lists
//! [what it maps, and what the kernel owes](crate::contract#11-page-table-isolation).
//!
//! Some CPUs let user mode read, by speculation, whatever the page table maps, supervisor pages included (CVE-2017-5754). A kernel
//! opts in by [`Doors::PAGE_TABLE_ISOLATION`]. The doors then switch CR3 as follows (`asm` has the pieces):
//!
//! * SYSCALL and SYSENTER use RSP as the scratch register for CR3, before it gets the thread stack.
//! * Exceptions and interrupts from user mode arrive on the CPU's entry stack (RSP0), which both tables map; the door switches,
//!   and moves the frame to the thread stack. The doors with their own stacks do the same from these.
//! * On the way out by SYSRET, RSP is the scratch register again. IRET's frame is copied to the entry stack (or is on an alias
//!   for 16-bit stacks), and IRET runs there.
//! * An IRET that faults does so on the user's table. Its door recognizes it by its address, and has used no stack but the entry
//!   stack until then.
//! * #DB, #MC and NMIs that hit the kernel may find either table: they load the kernel's and restore what they found.

use super::cpu;
use super::doors::Doors;

/// The bit of CR3 that is set for the user's table.
pub const USER_TABLE: u64 = 1 << 12;

/// [`USER_TABLE`] for a kernel with isolation, otherwise 0, for the doors' assembly.
pub(super) const fn user_table<K: Doors>() -> u32 {
    if K::PAGE_TABLE_ISOLATION { USER_TABLE as u32 } else { 0 }
}

/// Whether the kernel's table is in use, and `CpuLocal`, at `local`, begins a page.
pub(super) fn is_prepared(local: u64) -> bool {
    const PAGE: u64 = 4096;
    cpu::cr3() & USER_TABLE == 0 && local.is_multiple_of(PAGE)
}
