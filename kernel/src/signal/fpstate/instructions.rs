//! The instructions that save and load the extended register state.
//!
//! The registers are the current task's user state, which the kernel never uses.

use core::arch::asm;

use portcullis::x86_64::{clac_asm, stac_asm};

use crate::errno::{Errno, Result};
use crate::sched::fpu;

/// Runs one of the state instructions on memory that may make it fault. `edx:eax` select the components; FXSAVE and FXRSTOR ignore them.
macro_rules! or_fail {
    ($instruction:literal, $address:expr, $features:expr) => {{
        let features: u64 = $features;
        let failed: u32;
        // SAFETY: the caller's: the whole area is in the user's range, or a copy of the kernel's. A fault that cannot be resolved goes on at 3.
        unsafe {
            asm!(
                stac_asm!(),
                concat!("2: ", $instruction, " [{address}]"),
                "xor {failed:e}, {failed:e}",
                "4:",
                clac_asm!(),
                ".pushsection .text.unlikely, \"ax\"",
                "3: mov {failed:e}, 1",
                "jmp 4b",
                ".popsection",
                // A fault at 2 goes on at 3.
                ".pushsection portcullis_extable, \"aR\"\n.balign 4\n.long (2b - .)\n.long (3b - .)\n.popsection",
                address = in(reg) $address,
                failed = out(reg) failed,
                in("eax") features as u32,
                in("edx") (features >> 32) as u32,
                options(nostack),
            );
        }
        if failed == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }};
}

/// Saves as FXSAVE does. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn fxsave(address: u64) -> Result<()> {
    or_fail!("fxsave64", address, 0)
}

/// Saves these components as XSAVE does, which leaves the reserved part of the header as it is. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn xsave(address: u64, features: u64) -> Result<()> {
    or_fail!("xsave64", address, features)
}

/// Loads as FXRSTOR does. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn fxrstor(address: u64) -> Result<()> {
    or_fail!("fxrstor64", address, 0)
}

/// Loads these components as XRSTOR does. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn xrstor(address: u64, features: u64) -> Result<()> {
    or_fail!("xrstor64", address, features)
}

/// Saves to the kernel's memory as FXSAVE does.
///
/// # Safety
/// The image is aligned to 16 bytes.
pub unsafe fn fxsave_here(image: &mut [u8; fpu::LEGACY_SIZE]) {
    // SAFETY: big enough; aligned by the caller's promise.
    unsafe { asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags)) };
}

/// Loads what a program made as FXRSTOR does. EFAULT where the CPU refuses it.
///
/// # Safety
/// It is memory of the kernel's, aligned to 16 bytes, and an image long.
pub unsafe fn fxrstor_copy(image: *const u8) -> Result<()> {
    or_fail!("fxrstor64", image, 0)
}

/// Loads what a program made as XRSTOR does. EFAULT where the CPU refuses it.
///
/// # Safety
/// It is memory of the kernel's, aligned to 64 bytes, and as long as the components.
pub unsafe fn xrstor_copy(area: *const u8, features: u64) -> Result<()> {
    or_fail!("xrstor64", area, features)
}

/// Loads from the kernel's memory as FXRSTOR does.
///
/// # Safety
/// The image is aligned to 16 bytes, and MXCSR is one that the CPU takes.
pub unsafe fn fxrstor_here(image: *const u8) {
    // SAFETY: the caller's.
    unsafe { asm!("fxrstor64 [{}]", in(reg) image, options(nostack, readonly)) };
}

/// Loads these components from the kernel's memory as XRSTOR does.
///
/// # Safety
/// The area is one that the CPU takes, aligned to 64 bytes.
pub unsafe fn xrstor_here(area: *const u8, features: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) area, in("eax") features as u32, in("edx") (features >> 32) as u32,
            options(nostack, readonly));
    }
}
