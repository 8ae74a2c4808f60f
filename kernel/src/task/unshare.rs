//! unshare(2): a thread stops sharing what it got from `clone`. There are no namespaces.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use super::current;
use crate::errno::{Errno, Result};

/// unshare(2).
pub fn sys_unshare(flags: u64) -> Result<usize> {
    const ALONE: u32 = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    let task = current();
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    if flags & !(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | ALONE) != 0 {
        return Err(Errno::EINVAL);
    }
    // Threads cannot be taken apart: these say that there must be no others.
    if flags & ALONE != 0 && task.process.threads().len() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE_FS != 0 && Arc::strong_count(&task.fs) > 1 {
        let copy = Arc::new(task.fs.duplicate());
        drop(task.fs.replace(Some(copy)));
    }
    if flags & CLONE_FILES != 0 && Arc::strong_count(&task.files) > 1 {
        let copy = Arc::new(task.files.duplicate());
        drop(task.files.replace(Some(copy)));
    }
    Ok(0)
}
