//! The instructions that save and load the extended register state.
//!
//! The registers are the current task's user state, which the kernel never uses.

use core::arch::asm;

use portcullis::x86_64::{clac_asm, stac_asm};

use super::{InitialState, Legacy};
use crate::errno::{Errno, Result};

/// Runs one of the state instructions on user memory. `edx:eax` select the components; FXSAVE and FXRSTOR ignore them.
macro_rules! on_user_memory {
    ($instruction:literal, $address:expr, $features:expr) => {{
        let features: u64 = $features;
        let failed: u32;
        // SAFETY: the caller's: the whole area is in the user's range. A fault that cannot be resolved goes on at 3.
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
    on_user_memory!("fxsave64", address, 0)
}

/// Saves these components as XSAVE does, which leaves the reserved part of the header as it is. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn xsave(address: u64, features: u64) -> Result<()> {
    on_user_memory!("xsave64", address, features)
}

/// Loads as FXRSTOR does. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn fxrstor(address: u64) -> Result<()> {
    on_user_memory!("fxrstor64", address, 0)
}

/// Loads these components as XRSTOR does. EFAULT where the CPU refuses it.
///
/// # Safety
/// The whole area is in the user's range.
#[inline]
pub unsafe fn xrstor(address: u64, features: u64) -> Result<()> {
    on_user_memory!("xrstor64", address, features)
}

/// Saves to the kernel's memory.
pub fn fxsave_here(image: &mut Legacy) {
    // SAFETY: big enough and aligned.
    unsafe { asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags)) };
}

/// Loads from the kernel's memory.
///
/// # Safety
/// MXCSR is one that the CPU takes.
pub unsafe fn fxrstor_here(image: &Legacy) {
    // SAFETY: the caller's.
    unsafe { asm!("fxrstor64 [{}]", in(reg) image, options(nostack, readonly)) };
}

/// Loads the initial state as FXRSTOR does.
pub fn fxrstor_initial(state: &'static InitialState) {
    // SAFETY: a valid image.
    unsafe { asm!("fxrstor64 [{}]", in(reg) state, options(nostack, readonly)) };
}

/// Loads the initial state of these components.
pub fn xrstor_initial(state: &'static InitialState, features: u64) {
    // SAFETY: a valid area with all components in their initial state, of which XRSTOR reads nothing but the legacy part
    // and the header.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) state, in("eax") features as u32, in("edx") (features >> 32) as u32,
            options(nostack, readonly));
    }
}
