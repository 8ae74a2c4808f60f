//! The program's pages, where the crate does not bring its own.

use core::arch::global_asm;

use portcullis_boot::memory::{AddressSpace, KERNEL_BASE};

use crate::calls::{self, PAGE, PROGRAM};

global_asm!(include_str!("program.s"), options(att_syntax));

/// Maps them, and leaves the boot assembly's page table.
pub fn map_program() {
    AddressSpace::new().map_programs(PROGRAM).map_zeroed(PAGE, 1).load();
    // SAFETY: the page is mapped, and nobody else uses it.
    unsafe { calls::find_page(KERNEL_BASE) }
}
