//! User memory: that of the address space of this thread's task, found in its page tables, as the processor would. Without a task
//! there is none.
//!
//! In place of `memory::user`'s `instructions`.

use core::slice;

use crate::errno::{Errno, Result};
use crate::machine::cpu;
use crate::memory::address_space::{AddressSpace, current_mm};

fn mm() -> Result<&'static AddressSpace> {
    if cpu::address_space().is_null() { Err(Errno::EFAULT) } else { Ok(current_mm()) }
}

/// Copies from the user. False after a fault.
///
/// # Safety
/// The destination is a valid buffer of `len` bytes.
pub unsafe fn copy_in(dst: *mut u8, src: u64, len: usize) -> bool {
    // SAFETY: so that it may be a slice.
    unsafe { dst.write_bytes(0, len) };
    // SAFETY: the caller's.
    mm().and_then(|mm| mm.copy_out(src, unsafe { slice::from_raw_parts_mut(dst, len) })).is_ok()
}

/// Copies to the user. False after a fault.
///
/// # Safety
/// The source is a valid buffer of `len` bytes.
pub unsafe fn copy_out(dst: u64, src: *const u8, len: usize) -> bool {
    // SAFETY: the caller's.
    mm().and_then(|mm| mm.copy_in(dst, unsafe { slice::from_raw_parts(src, len) })).is_ok()
}

fn load<const N: usize>(addr: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    mm()?.copy_out(addr, &mut bytes)?;
    Ok(bytes)
}

/// Loads a word.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn load_u32_at(addr: u64) -> Result<u32> {
    load(addr).map(u32::from_ne_bytes)
}

/// Loads a word.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn load_u64_at(addr: u64) -> Result<u64> {
    load(addr).map(u64::from_ne_bytes)
}

/// Stores a word.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn store_u32_at(addr: u64, value: u32) -> Result<()> {
    mm()?.copy_in(addr, &value.to_ne_bytes())
}

/// Stores a word.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn store_u64_at(addr: u64, value: u64) -> Result<()> {
    mm()?.copy_in(addr, &value.to_ne_bytes())
}

/// Replaces a word by `new` if it is `old`. Not atomically: an address space of the tests is one thread's.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn cmpxchg_u32_at(addr: u64, old: u32, new: u32) -> Result<u32> {
    let found = load(addr).map(u32::from_ne_bytes)?;
    let value = if found == old { new } else { found };
    mm()?.copy_in(addr, &value.to_ne_bytes()).map(|()| found)
}

/// Writes `len` zeros. False after a fault.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn clear(addr: u64, len: usize) -> bool {
    const ZEROS: [u8; 4096] = [0; _];
    (0..len).step_by(ZEROS.len()).all(|done| {
        let part = ZEROS.len().min(len - done);
        mm().and_then(|mm| mm.copy_in(addr.wrapping_add(done as u64), &ZEROS[..part])).is_ok()
    })
}
