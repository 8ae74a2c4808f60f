//! Page-table isolation: user mode runs on a page table of its own, which maps next to nothing of the kernel.
//!
//! Some CPUs let user mode read, by speculation, whatever the page table maps, supervisor pages too (CVE-2017-5754). What is
//! not mapped cannot be read. A kernel opts in by [`Doors::PAGE_TABLE_ISOLATION`].
//!
//! ```text
//!   CR3 with bit 12 clear             CR3 with bit 12 set
//!   the kernel's table                the user's table
//!   ─────────────────────             ────────────────────────────────
//!   user half                   ===   user half
//!   the doors' code             ===   the doors' code                   r-x   section .portcullis.entry
//!   IDT                         ===   IDT                               r--   init::interrupt_table()
//!   each CPU's Tables           ===   each CPU's Tables                 rw-   GDT, TSS, entry stack, IST stacks
//!   each CPU's CpuLocal         ===   each CPU's CpuLocal               rw-
//!   aliases for 16-bit stacks   ===   aliases for 16-bit stacks         r--   Espfix::alias
//!   local descriptor tables     ===   local descriptor tables           rw-   segments::load_ldt
//!   everything else
//! ```
//!
//! # How the doors switch
//!
//! * SYSCALL and SYSENTER use RSP as the scratch register for CR3, before it gets the thread stack.
//! * Exceptions and interrupts from user mode arrive on the CPU's entry stack (RSP0), which both tables map; the door
//!   switches and moves the frame to the thread stack. The doors with stacks of their own do the same from these.
//! * On the way out by SYSRET everything is popped, then RSP is the scratch register again. IRET's frame is copied to the
//!   entry stack (or is on an alias), and IRET runs there.
//! * An IRET that faults does so on the user's table. The door knows it by its address, as ever, and has touched nothing but the
//!   entry stack by then.
//! * #DB, #MC and NMIs that hit the kernel may find either table: they put in the kernel's and put back what they found.
//!
//! Nothing but these doors runs with the user's table, and no decision looks at a value that user mode can set.
//!
//! # What the kernel owes
//!
//! * The top-level tables of an address space are two adjacent pages, the kernel's at a multiple of 8 KiB, the user's behind
//!   it: the values of CR3 differ in bit 12 alone. In CR3 the kernel only ever puts the former, with PCIDs off, and every
//!   CR3 that it runs with has bit 12 clear, those of idle CPUs too.
//! * The user's maps the user half as the kernel's does (top-level entries are copied whenever they change; the levels below
//!   are shared), and of the kernel's half what is listed above, at the same addresses, not accessible to user mode.
//! * `CpuLocal` is the first thing in the kernel's per-CPU area, and the only one on its page: the kernel's own part begins on
//!   the next. `Tables` and the interrupt table fill their pages.
//! * Each of the others has its pages to itself: what lies beside it can be read, too. The linker puts the section
//!   `.portcullis.entry` on pages of its own.
//! * No page of the kernel is global (bit 8 of its entry): its translation would outlive the switch.
//! * A translation is gone from a CPU when that CPU has invalidated it, or loaded CR3, with either table. (Without PCIDs
//!   each switch drops all.)

use super::cpu;
use super::doors::Doors;

/// The bit of CR3 that tells the user's table from the kernel's.
pub const USER_TABLE: u64 = 1 << 12;

/// [`USER_TABLE`] for a kernel with isolation, otherwise 0: the doors' assembly goes by this.
pub(super) const fn user_table<K: Doors>() -> u32 {
    if K::PAGE_TABLE_ISOLATION {
        USER_TABLE as u32
    } else {
        0
    }
}

/// Whether a kernel with isolation has done, as far as can be seen here, what it owes before its CPU is set up: the kernel's
/// table is in use, and `CpuLocal`, at `local`, begins a page.
pub(super) fn is_prepared(local: u64) -> bool {
    const PAGE: u64 = 4096;
    cpu::cr3() & USER_TABLE == 0 && local.is_multiple_of(PAGE)
}
