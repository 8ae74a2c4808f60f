//! Reading and writing user memory.
//!
//! Every instruction here that touches user memory is in the exception table. A fault in it is resolved like the
//! program's own, copy-on-write included; if it cannot be, the routine returns EFAULT. To be called with interrupts on
//! and no lock held: with a lock held nothing is resolved.

use alloc::vec::Vec;
use core::arch::asm;
use core::mem::{MaybeUninit, size_of, transmute_copy};

use portcullis::x86_64::{clac_asm, stac_asm};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::machine::nospec;
use crate::memory::layout::USER_END;

/// An entry of the exception table: a fault at one local label goes on at another.
macro_rules! on_fault {
    ($instruction:literal => $fixup:literal) => {
        concat!(
            ".pushsection portcullis_extable, \"aR\"\n",
            ".balign 4\n",
            ".long (",
            $instruction,
            " - .)\n",
            ".long (",
            $fixup,
            " - .)\n",
            ".popsection\n",
        )
    };
}

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

/// Copies `len` bytes. False after a fault.
///
/// # Safety
/// Each of the ranges is either valid kernel memory or within the user's range.
#[inline]
unsafe fn copy(dst: u64, src: u64, len: usize) -> bool {
    let left: u64;
    // SAFETY: the caller's; a fault in one of the two instructions goes on at 4 with what is left in RCX, not zero.
    unsafe {
        asm!(
            stac_asm!(),
            "2: rep movsq",
            "mov ecx, {tail:e}",
            "3: rep movsb",
            "4:",
            clac_asm!(),
            on_fault!("2b" => "4b"),
            on_fault!("3b" => "4b"),
            tail = in(reg) len % 8,
            inout("rcx") len as u64 / 8 => left, inout("rdi") dst => _, inout("rsi") src => _,
            options(nostack),
        );
    }
    left == 0
}

/// Copies from the user. After EFAULT a part may have been copied.
///
/// # Safety
/// The kernel's side is a valid buffer of `len` bytes.
#[inline]
pub unsafe fn copy_from_user(dst: *mut u8, src: u64, len: usize) -> Result<()> {
    let src = check(src, len)?;
    // SAFETY: the source is in the user's range; the destination is the caller's buffer of `len` bytes.
    if unsafe { copy(dst as u64, src, len) } { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies to the user. After EFAULT a part may have been copied.
///
/// # Safety
/// The kernel's side is a valid buffer of `len` bytes.
#[inline]
pub unsafe fn copy_to_user(dst: u64, src: *const u8, len: usize) -> Result<()> {
    let dst = check(dst, len)?;
    // SAFETY: the destination is in the user's range; the source is the caller's buffer of `len` bytes.
    if unsafe { copy(dst, src as u64, len) } { Ok(()) } else { Err(Errno::EFAULT) }
}

/// One load or store of the size of the register, for values that fit. The address is user memory, or the access faults: see
/// [`user_or_fault`].
macro_rules! single {
    ($load:ident, $store:ident, $int:ty, $modifier:literal, $size:literal) => {
        /// # Safety
        /// The address is in the lower half, or `user_or_fault`'s.
        #[inline]
        unsafe fn $load(addr: u64) -> Result<$int> {
            let (value, failed): ($int, u32);
            // SAFETY: user memory, or it faults; a fault goes on at 3 with `failed` still set.
            unsafe {
                asm!(
                    stac_asm!(),
                    "mov {failed:e}, 1",
                    concat!("2: mov {value", $modifier, "}, ", $size, " ptr [{addr}]"),
                    "xor {failed:e}, {failed:e}",
                    "3:",
                    clac_asm!(),
                    on_fault!("2b" => "3b"),
                    addr = in(reg) addr, value = out(reg) value, failed = out(reg) failed,
                    options(nostack),
                );
            }
            if failed == 0 { Ok(value) } else { Err(Errno::EFAULT) }
        }

        /// # Safety
        /// As for the load.
        #[inline]
        unsafe fn $store(addr: u64, value: $int) -> Result<()> {
            let failed: u32;
            // SAFETY: as above.
            unsafe {
                asm!(
                    stac_asm!(),
                    "mov {failed:e}, 1",
                    concat!("2: mov ", $size, " ptr [{addr}], {value", $modifier, "}"),
                    "xor {failed:e}, {failed:e}",
                    "3:",
                    clac_asm!(),
                    on_fault!("2b" => "3b"),
                    addr = in(reg) addr, value = in(reg) value, failed = out(reg) failed,
                    options(nostack),
                );
            }
            if failed == 0 { Ok(()) } else { Err(Errno::EFAULT) }
        }
    };
}

single!(load_u32_at, store_u32_at, u32, ":e", "dword");
single!(load_u64_at, store_u64_at, u64, "", "qword");

/// Reads a value.
#[inline]
pub fn read<T: FromBytes>(addr: u64) -> Result<T> {
    if size_of::<T>() == 8 {
        // SAFETY: such an address.
        let value = unsafe { load_u64_at(user_or_fault(addr))? };
        // SAFETY: of this size, and any bytes are a `T`.
        return Ok(unsafe { transmute_copy(&value) });
    }
    if size_of::<T>() == 4 {
        // SAFETY: such an address.
        let value = unsafe { load_u32_at(user_or_fault(addr))? };
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
        8 => unsafe { store_u64_at(user_or_fault(addr), u64::from_ne_bytes(bytes.try_into().unwrap_or_default())) },
        // SAFETY: such an address.
        4 => unsafe { store_u32_at(user_or_fault(addr), u32::from_ne_bytes(bytes.try_into().unwrap_or_default())) },
        // SAFETY: the length of the slice.
        len => unsafe { copy_to_user(addr, bytes.as_ptr(), len) },
    }
}

/// Reads a 32-bit word in one access, as futexes need it.
#[inline]
pub fn load_u32(addr: u64) -> Result<u32> {
    // SAFETY: such an address.
    unsafe { load_u32_at(user_or_fault(addr)) }
}

/// Reads a word of a 32-bit program, whose every address is in the lower half.
#[inline]
pub fn load_u32_below_4g(addr: u32) -> Result<u32> {
    // SAFETY: in the lower half.
    unsafe { load_u32_at(addr.into()) }
}

/// Replaces a 32-bit word by `new` if it is `old`, atomically. Returns what it was.
pub fn atomic_cmpxchg_u32(addr: u64, old: u32, new: u32) -> Result<u32> {
    let addr = user_or_fault(addr);
    let (found, failed): (u32, u32);
    // SAFETY: user memory, or it faults; a fault goes on at 3 with `failed` still set.
    unsafe {
        asm!(
            stac_asm!(),
            "mov {failed:e}, 1",
            "2: lock cmpxchg dword ptr [{addr}], {new:e}",
            "mov {failed:e}, 0",
            "3:",
            clac_asm!(),
            on_fault!("2b" => "3b"),
            addr = in(reg) addr, new = in(reg) new, failed = out(reg) failed, inout("eax") old => found,
            options(nostack),
        );
    }
    if failed == 0 { Ok(found) } else { Err(Errno::EFAULT) }
}

/// Writes `len` zeros.
pub fn clear(addr: u64, len: usize) -> Result<()> {
    let addr = check(addr, len)?;
    let left: u64;
    // SAFETY: user memory, or it faults; a fault goes on at 4 with what is left in RCX, not zero.
    unsafe {
        asm!(
            stac_asm!(),
            "2: rep stosq",
            "mov ecx, {tail:e}",
            "3: rep stosb",
            "4:",
            clac_asm!(),
            on_fault!("2b" => "4b"),
            on_fault!("3b" => "4b"),
            tail = in(reg) len % 8,
            inout("rcx") len as u64 / 8 => left, inout("rdi") addr => _, in("rax") 0u64,
            options(nostack),
        );
    }
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
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
