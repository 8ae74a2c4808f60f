//! The instructions that read and load segment registers.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::*};

use portcullis::x86_64::cpu::{msr, rdmsr, wrmsr};
use portcullis::x86_64::segments::{BadSelector, Segment, load_segment};
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::machine::gate::Gate;

/// Whether RDFSBASE and its like may be used: CR4.FSGSBASE is on (the library's `init_cpu` sets it where the CPU has it).
static FSGSBASE: AtomicBool = AtomicBool::new(false);

/// Looks at what this CPU can do. Once, on the boot CPU, after the library's `init_cpu`.
pub fn init() {
    FSGSBASE.store(Cr4::read().contains(Cr4Flags::FSGSBASE), Relaxed);
}

/// Whether user code may use RDFSBASE and its like.
pub fn has_fsgsbase() -> bool {
    FSGSBASE.load(Relaxed)
}

/// The live FS base of user mode.
#[inline]
pub fn fs_base() -> u64 {
    if FSGSBASE.load(Relaxed) {
        let base;
        // SAFETY: the CPU has the instruction and CR4 allows it.
        unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        base
    } else {
        // SAFETY: every 64-bit CPU has the register.
        unsafe { rdmsr(msr::FS_BASE) }
    }
}

/// Sets the live FS base.
#[inline]
pub fn set_fs_base(base: u64) {
    if FSGSBASE.load(Relaxed) {
        // SAFETY: as above. The kernel itself does not use FS; callers pass canonical addresses.
        unsafe { asm!("wrfsbase {}", in(reg) base, options(nomem, nostack, preserves_flags)) };
    } else {
        // SAFETY: as above.
        unsafe { wrmsr(msr::FS_BASE, canonical(base)) };
    }
}

/// The GS base of user mode: while the kernel runs, it waits in KERNEL_GS_BASE.
#[inline]
pub fn gs_base() -> u64 {
    // SAFETY: every 64-bit CPU has the register. Not through a checked address type: an emulator may let user code put
    // any value there.
    unsafe { rdmsr(msr::KERNEL_GS_BASE) }
}

/// Sets the GS base that user mode gets.
#[inline]
pub fn set_gs_base(base: u64) {
    // SAFETY: the register is user mode's while the kernel runs.
    unsafe { wrmsr(msr::KERNEL_GS_BASE, canonical(base)) };
}

/// The address that the CPU takes: bit 47 extended. WRMSR faults on anything else.
const fn canonical(address: u64) -> u64 {
    ((address << 16) as i64 >> 16) as u64
}

/// The selectors in DS, ES, FS and GS.
#[inline]
pub fn selectors() -> [u16; 4] {
    let (ds, es, fs, gs);
    // SAFETY: reading selectors has no effect.
    unsafe {
        asm!("mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs,
            options(nomem, nostack, preserves_flags));
    }
    [ds, es, fs, gs]
}

/// Loads a segment register with a selector of the user's choice, null where it names nothing.
///
/// # Safety
/// Interrupts off; no table changes. The base changes with the selector of FS or GS.
#[inline]
pub unsafe fn load(segment: Segment, selector: u16) -> Result<(), BadSelector> {
    // SAFETY: the caller's.
    unsafe { load_segment::<Gate>(segment, selector) }
}

/// Makes FS null. Its base becomes any.
pub fn clear_fs() {
    // SAFETY: a null selector may always be loaded; the kernel does not use FS.
    unsafe { asm!("mov fs, {:x}", in(reg) 0, options(nostack, preserves_flags)) };
}
