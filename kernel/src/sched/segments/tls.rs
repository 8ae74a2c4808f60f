//! The three entries of the GDT that each thread has for itself, in place of which the 64-bit ABI has the base of FS. 32-bit
//! libraries keep a thread's variables there. How they are set is in [`thread_area`](super::thread_area).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::x86_64::segments::load_tls;
use portcullis::x86_64::tables::{TLS_ENTRIES, TLS_FIRST};

use crate::errno::{Errno, Result};

/// A thread's descriptors. Written by the thread itself, and by its tracer while it is stopped.
#[derive(Default)]
pub struct Tls(pub(super) [AtomicU64; TLS_ENTRIES]);

impl Tls {
    /// All of them.
    pub fn entries(&self) -> [u64; TLS_ENTRIES] {
        [0, 1, 2].map(|n: usize| self.0[n].load(Relaxed))
    }

    /// The entry with this number in the GDT.
    pub fn entry(&self, number: u32) -> Result<&AtomicU64> {
        (number as usize).checked_sub(TLS_FIRST).and_then(|index| self.0.get(index)).ok_or(Errno::EINVAL)
    }

    /// Makes them those of this CPU. Interrupts off.
    pub fn load(&self) {
        // SAFETY: interrupts are off; `thread_area` lets nothing in but 32-bit data segments, of ring 3 as all that `UserDesc` makes.
        unsafe { load_tls(&self.entries()) }
    }
}
