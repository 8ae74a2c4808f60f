//! What user mode has in the segment registers: selectors and bases, which its code may change at any time.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::*};

use portcullis::x86_64::cpu::{msr, rdmsr, wrmsr};
use portcullis::x86_64::segments::{Segment, load_segment};
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::machine::gate::Gate;
use crate::machine::sync;

/// What user code may have in its segment registers.
#[derive(Clone, Copy, Default)]
pub struct Segments {
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    pub(crate) ds: u16,
    pub(crate) es: u16,
    pub(crate) fs: u16,
    pub(crate) gs: u16,
}

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

/// arch_prctl(ARCH_SET_FS): the base, with a null selector, as Linux leaves it.
pub fn set_fs_base_and_selector(base: u64) {
    let _guard = sync::irqs_off();
    // SAFETY: a null selector may always be loaded; the kernel does not use FS.
    unsafe { asm!("mov fs, {:x}", in(reg) 0, options(nostack, preserves_flags)) };
    set_fs_base(base);
}

/// arch_prctl(ARCH_SET_GS).
pub fn set_gs_base_and_selector(base: u64) {
    let _guard = sync::irqs_off();
    // SAFETY: a null selector may always be loaded.
    let _ = unsafe { load_segment::<Gate>(Segment::Gs, 0) };
    set_gs_base(base);
}

/// Whether the base that was saved with the selector is to be put back. With FSGSBASE it always is: base and selector have
/// nothing to do with each other. Without, a selector that names a descriptor stands for its base, which may be another
/// one by now (as in Linux).
#[inline]
fn base_is_kept(selector: u16) -> bool {
    selector <= 3 || has_fsgsbase()
}

impl Segments {
    /// Those of the current task, live. Interrupts off, or they may be another CPU's by the time they are looked at.
    pub fn current() -> Segments {
        let mut segments = Segments::default();
        segments.save();
        segments
    }

    /// Reads those of the CPU. Interrupts off.
    #[inline]
    pub fn save(&mut self) {
        // SAFETY: reading selectors has no effect.
        unsafe {
            asm!("mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
                out(reg) self.ds, out(reg) self.es, out(reg) self.fs, out(reg) self.gs,
                options(nomem, nostack, preserves_flags));
        }
        self.fs_base = fs_base();
        self.gs_base = gs_base();
    }

    /// Loads these in place of `old`, which are what the CPU has now. Interrupts off; the task's descriptors are loaded.
    #[inline]
    pub fn load(&self, old: &Segments) {
        if (self.selectors() | old.selectors()) != 0 {
            // SAFETY: interrupts are off, and so no table changes.
            return unsafe { self.load_selectors(old) };
        }
        set_fs_base(self.fs_base);
        if self.gs_base != old.gs_base {
            set_gs_base(self.gs_base);
        }
    }

    fn selectors(&self) -> u16 {
        self.ds | self.es | self.fs | self.gs
    }

    /// As `load`, where there are selectors. One whose descriptor has gone since becomes null.
    ///
    /// # Safety
    /// Interrupts off.
    #[cold]
    unsafe fn load_selectors(&self, old: &Segments) {
        for (segment, new, old) in [
            (Segment::Ds, self.ds, old.ds),
            (Segment::Es, self.es, old.es),
            (Segment::Fs, self.fs, old.fs),
            (Segment::Gs, self.gs, old.gs),
        ] {
            if new | old != 0 {
                // SAFETY: the caller's.
                let _ = unsafe { load_segment::<Gate>(segment, new) };
            }
        }
        // Loading a selector may have set the base, so the bases come second.
        if base_is_kept(self.fs) {
            set_fs_base(self.fs_base);
        }
        if base_is_kept(self.gs) {
            set_gs_base(self.gs_base);
        }
    }

    /// As a program starts: all null, all zero, but for the selector in DS and ES.
    pub fn reset_current(data: u16) {
        let _guard = sync::irqs_off();
        let old = Segments::current();
        let fresh = Segments { ds: data, es: data, ..Segments::default() };
        fresh.load(&old);
    }
}
