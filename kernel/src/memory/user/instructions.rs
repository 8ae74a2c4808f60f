//! The instructions that touch user memory, each in the exception table.

use core::arch::asm;

use portcullis::x86_64::{clac_asm, stac_asm};

use crate::errno::{Errno, Result};

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

/// Copies from the user. False after a fault.
///
/// # Safety
/// The source is in the user's range; the destination is a valid buffer of `len` bytes.
#[inline]
pub unsafe fn copy_in(dst: *mut u8, src: u64, len: usize) -> bool {
    // SAFETY: the caller's.
    unsafe { copy(dst as u64, src, len) }
}

/// Copies to the user. False after a fault.
///
/// # Safety
/// The destination is in the user's range; the source is a valid buffer of `len` bytes.
#[inline]
pub unsafe fn copy_out(dst: u64, src: *const u8, len: usize) -> bool {
    // SAFETY: the caller's.
    unsafe { copy(dst, src as u64, len) }
}

/// One load or store of the size of the register, for values that fit. The address is user memory, or the access faults: see
/// `user_or_fault` in [`user`](super).
macro_rules! single {
    ($load:ident, $store:ident, $int:ty, $modifier:literal, $size:literal) => {
        /// # Safety
        /// The address is in the lower half, or `user_or_fault`'s.
        #[inline]
        pub unsafe fn $load(addr: u64) -> Result<$int> {
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
        pub unsafe fn $store(addr: u64, value: $int) -> Result<()> {
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

/// Replaces a 32-bit word by `new` if it is `old`, atomically. Returns what it was.
///
/// # Safety
/// As for [`load_u32_at`].
pub unsafe fn cmpxchg_u32_at(addr: u64, old: u32, new: u32) -> Result<u32> {
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

/// Writes `len` zeros. False after a fault.
///
/// # Safety
/// The range is in the user's.
#[inline]
pub unsafe fn clear(addr: u64, len: usize) -> bool {
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
    left == 0
}
