//! What user mode has in the segment registers: selectors and bases, which its code may change at any time.

use portcullis::x86_64::segments::Segment;

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

#[cfg(not(any(test, fuzzing)))]
mod registers;
// A process may not load what it needs itself.
#[cfg(any(test, fuzzing))]
use crate::host::segments as registers;

pub use registers::{fs_base, gs_base, has_fsgsbase, init, load, set_fs_base, set_gs_base};

/// arch_prctl(ARCH_SET_FS): the base, with a null selector, as Linux leaves it.
pub fn set_fs_base_and_selector(base: u64) {
    let _guard = sync::irqs_off();
    registers::clear_fs();
    set_fs_base(base);
}

/// arch_prctl(ARCH_SET_GS).
pub fn set_gs_base_and_selector(base: u64) {
    let _guard = sync::irqs_off();
    // SAFETY: a null selector may always be loaded.
    let _ = unsafe { load(Segment::Gs, 0) };
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
        [self.ds, self.es, self.fs, self.gs] = registers::selectors();
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
                let _ = unsafe { load(segment, new) };
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
