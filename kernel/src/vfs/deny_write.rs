//! Keeping others from writing to a file that runs, and from running one that is written to ([`write_count`](super::write_count)).

use alloc::sync::Arc;
use core::sync::atomic::Ordering::*;

use crate::errno::Result;
use crate::vfs::inode::Inode;

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
