//! Who writes to a file and who runs it: never both at once (ETXTBSY).

use core::sync::atomic::{AtomicI32, Ordering::*};

use crate::errno::{Errno, Result};

/// How many open files may write to a file, or, negative, how many programs are not to be written to.
pub struct WriteCount(pub(super) AtomicI32);

impl WriteCount {
    /// Nobody writes to the file, nobody runs it.
    pub const fn new() -> WriteCount {
        WriteCount(AtomicI32::new(0))
    }

    /// Counts by so much. ETXTBSY if that would mix the two.
    pub(super) fn change(&self, by: i32) -> Result<()> {
        let allowed = |count: i32| (count.signum() * by >= 0).then_some(count + by);
        match self.0.fetch_update(AcqRel, Relaxed, allowed) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::ETXTBSY),
        }
    }

    /// Counts a writer. ETXTBSY while the file runs.
    pub fn begin(&self) -> Result<()> {
        self.change(1)
    }

    /// Counts a writer back.
    pub fn end(&self) {
        self.0.fetch_sub(1, AcqRel);
    }
}
