//! Who writes to a file and who runs it: never both at once (ETXTBSY).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering::*};

use crate::errno::{Errno, Result};
use crate::vfs::inode::Inode;

/// How many open files may write to a file, or, negative, how many programs are not to be written to.
pub struct WriteCount(AtomicI32);

impl WriteCount {
    /// Nobody writes to the file, nobody runs it.
    pub const fn new() -> WriteCount {
        WriteCount(AtomicI32::new(0))
    }

    fn change(&self, by: i32) -> Result<()> {
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

/// Calls `change`, which writes to `inode` without having it open for that.
pub fn while_writing<T>(inode: &Arc<dyn Inode>, change: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(count) = inode.write_count() else {
        return change();
    };
    count.begin()?;
    let result = change();
    count.end();
    result
}

/// Nobody opens the file for writing while this lives.
pub struct DenyWrite(Arc<dyn Inode>);

impl DenyWrite {
    /// ETXTBSY if the file is open for writing.
    pub fn new(inode: Arc<dyn Inode>) -> Result<DenyWrite> {
        if let Some(count) = inode.write_count() {
            count.change(-1)?;
        }
        Ok(DenyWrite(inode))
    }
}

impl Clone for DenyWrite {
    fn clone(&self) -> Self {
        if let Some(count) = self.0.write_count() {
            // It is denied already: there is no writer.
            count.0.fetch_sub(1, AcqRel);
        }
        DenyWrite(self.0.clone())
    }
}

impl Drop for DenyWrite {
    fn drop(&mut self) {
        if let Some(count) = self.0.write_count() {
            count.0.fetch_add(1, AcqRel);
        }
    }
}

#[cfg(test)]
mod tests;
