//! Bounds that hold under speculation, too (Spectre variant 1, CVE-2017-5753): while a branch is predicted wrong, the CPU reads with a
//! number of the user's that the branch refuses. What a CMOV chooses waits for the comparison, and CPUs do not predict that.
//!
//! For numbers that come straight from user mode and index a table of pointers, and for addresses of user memory.

use core::arch::asm;

/// The table's entry, or its last one for numbers beyond.
#[inline(always)]
pub fn entry_or_last<T: Copy, const N: usize>(table: &[T; N], number: u32) -> T {
    const { assert!(N > 0 && N <= u32::MAX as usize) };
    let index: u32;
    // SAFETY: changes a register and the flags.
    unsafe {
        asm!("cmp {number:e}, {last:e}", "cmova {number:e}, {last:e}", number = inout(reg) number => index, last = in(reg) N as u32 - 1,
            options(pure, nomem, nostack));
    }
    // SAFETY: less than N.
    unsafe { *table.get_unchecked(index as usize) }
}

/// The element with a number of the user's, if there is one.
#[inline(always)]
pub fn get<T>(elements: &[T], number: u32) -> Option<&T> {
    let index: usize;
    // SAFETY: changes registers and the flags: all ones where the number is below the length, otherwise zero.
    unsafe {
        asm!("cmp {number}, {len}", "sbb {mask}, {mask}", "and {number}, {mask}", number = inout(reg) number as usize => index,
            len = in(reg) elements.len(), mask = out(reg) _, options(pure, nomem, nostack));
    }
    if (number as usize) >= elements.len() {
        return None;
    }
    // SAFETY: there are elements, and the index is the number or zero.
    Some(unsafe { elements.get_unchecked(index) })
}

/// The address, or `end` if it is beyond.
#[inline(always)]
pub fn address_up_to(end: u64, address: u64) -> u64 {
    let masked;
    // SAFETY: changes a register and the flags.
    unsafe {
        asm!("cmp {address}, {end}", "cmova {address}, {end}", address = inout(reg) address => masked, end = in(reg) end,
            options(pure, nomem, nostack));
    }
    masked
}

#[cfg(test)]
mod tests;
