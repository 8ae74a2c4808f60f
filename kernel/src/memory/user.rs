//! Reading and writing user memory.
//!
//! Every instruction that touches user memory (`instructions`) is in the exception table. A fault in it is resolved like the
//! program's own, copy-on-write included; if it cannot be, the routine returns EFAULT. To be called with interrupts on
//! and no lock held: with a lock held nothing is resolved.

use alloc::vec::Vec;
use core::mem::{MaybeUninit, size_of, transmute_copy};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::machine::nospec;
use crate::memory::layout::USER_END;

#[cfg(not(any(test, fuzzing)))]
mod instructions;
// A process of the host has no user memory at the addresses of a program.
#[cfg(any(test, fuzzing))]
use crate::host::user as instructions;

/// True when all of the range may be user memory.
#[inline]
pub fn is_user_range(addr: u64, len: u64) -> bool {
    len <= USER_END && addr <= USER_END - len
}

/// The address, if all of the range may be user memory. Where the CPU only believes that, it gets another one.
#[inline]
fn check(addr: u64, len: usize) -> Result<u64> {
    if is_user_range(addr, len as u64) { Ok(nospec::address_up_to(USER_END, addr)) } else { Err(Errno::EFAULT) }
}

/// An address at which at most a word may be accessed: if not all of that is user memory, the access faults. Nothing is ever mapped
/// at USER_END.
#[inline]
fn user_or_fault(addr: u64) -> u64 {
    nospec::address_up_to(USER_END, addr)
}

/// Copies from the user. After EFAULT a part may have been copied.
///
/// # Safety
/// The kernel's side is a valid buffer of `len` bytes.
#[inline]
pub unsafe fn copy_from_user(dst: *mut u8, src: u64, len: usize) -> Result<()> {
    let src = check(src, len)?;
    // SAFETY: the source is in the user's range; the destination is the caller's buffer of `len` bytes.
    if unsafe { instructions::copy_in(dst, src, len) } { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies to the user. After EFAULT a part may have been copied.
///
/// # Safety
/// The kernel's side is a valid buffer of `len` bytes.
#[inline]
pub unsafe fn copy_to_user(dst: u64, src: *const u8, len: usize) -> Result<()> {
    let dst = check(dst, len)?;
    // SAFETY: the destination is in the user's range; the source is the caller's buffer of `len` bytes.
    if unsafe { instructions::copy_out(dst, src, len) } { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads a value.
#[inline]
pub fn read<T: FromBytes>(addr: u64) -> Result<T> {
    if size_of::<T>() == 8 {
        // SAFETY: such an address.
        let value = unsafe { instructions::load_u64_at(user_or_fault(addr))? };
        // SAFETY: of this size, and any bytes are a `T`.
        return Ok(unsafe { transmute_copy(&value) });
    }
    if size_of::<T>() == 4 {
        // SAFETY: such an address.
        let value = unsafe { instructions::load_u32_at(user_or_fault(addr))? };
        // SAFETY: of this size, and any bytes are a `T`.
        return Ok(unsafe { transmute_copy(&value) });
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the size of the value.
    unsafe { copy_from_user(value.as_mut_ptr().cast(), addr, size_of::<T>())? };
    // SAFETY: every byte has been written, and any bytes are a `T`.
    Ok(unsafe { value.assume_init() })
}

/// Writes a value.
#[inline]
pub fn write<T: IntoBytes + Immutable + ?Sized>(addr: u64, value: &T) -> Result<()> {
    let bytes = value.as_bytes();
    match bytes.len() {
        // SAFETY: such an address.
        8 => unsafe {
            instructions::store_u64_at(user_or_fault(addr), u64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
        },
        // SAFETY: such an address.
        4 => unsafe {
            instructions::store_u32_at(user_or_fault(addr), u32::from_ne_bytes(bytes.try_into().unwrap_or_default()))
        },
        // SAFETY: the length of the slice.
        len => unsafe { copy_to_user(addr, bytes.as_ptr(), len) },
    }
}

/// Reads a 32-bit word in one access, as futexes need it.
#[inline]
pub fn load_u32(addr: u64) -> Result<u32> {
    // SAFETY: such an address.
    unsafe { instructions::load_u32_at(user_or_fault(addr)) }
}

/// Reads a word of a 32-bit program, whose every address is in the lower half.
#[inline]
pub fn load_u32_below_4g(addr: u32) -> Result<u32> {
    // SAFETY: in the lower half.
    unsafe { instructions::load_u32_at(addr.into()) }
}

/// Replaces a 32-bit word by `new` if it is `old`, atomically. Returns what it was.
pub fn atomic_cmpxchg_u32(addr: u64, old: u32, new: u32) -> Result<u32> {
    let addr = user_or_fault(addr);
    // SAFETY: user memory, or it faults.
    unsafe { instructions::cmpxchg_u32_at(addr, old, new) }
}

/// Writes `len` zeros.
pub fn clear(addr: u64, len: usize) -> Result<()> {
    let addr = check(addr, len)?;
    // SAFETY: in the user's range.
    if unsafe { instructions::clear(addr, len) } { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads a string up to its NUL, which is not part of the result. ENAMETOOLONG if there is none in `max` bytes.
pub fn read_cstr(addr: u64, max: usize) -> Result<Vec<u8>> {
    const CHUNK: usize = 256;
    let mut string = Vec::new();
    while string.len() < max {
        let at = addr.checked_add(string.len() as u64).ok_or(Errno::EFAULT)?;
        // Never beyond the page: the next may not be mapped, and need not be.
        let len = CHUNK.min(max - string.len()).min((PAGE_SIZE - at % PAGE_SIZE) as usize);
        let mut chunk = [0; CHUNK];
        // SAFETY: `len` is at most the size of the chunk.
        unsafe { copy_from_user(chunk.as_mut_ptr(), at, len)? };
        if let Some(end) = chunk[..len].iter().position(|&byte| byte == 0) {
            string.extend_from_slice(&chunk[..end]);
            return Ok(string);
        }
        string.extend_from_slice(&chunk[..len]);
    }
    Err(Errno::ENAMETOOLONG)
}
