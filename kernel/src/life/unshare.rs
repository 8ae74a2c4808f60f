//! unshare(2): a thread stops sharing what it got from `clone`, or goes into a namespace of its own.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::task::pid_numbers;
use crate::task::{current, pid_namespace};

/// unshare(2).
pub fn sys_unshare(flags: u64) -> Result<usize> {
    const ALONE: u32 = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    let task = current();
    let mut flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    if flags & !(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_NEWUSER | CLONE_NEWPID | ALONE) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE_NEWUSER != 0 {
        // A directory that is shared with others must not be their way out of where they were put.
        flags |= CLONE_THREAD | CLONE_FS;
    }
    // Threads cannot be taken apart: these say that there must be no others.
    if flags & ALONE != 0 && task.process.threads().len() > 1 {
        return Err(Errno::EINVAL);
    }
    let pid_namespace = &task.pid_namespace_of_children;
    if flags & CLONE_NEWPID != 0 && !pid_namespace::is_same(&pid_namespace.lock(), &task.process.pid_namespace) {
        return Err(Errno::EINVAL);
    }
    let mut credentials = task.process.credentials.lock().clone();
    if flags & CLONE_NEWUSER != 0 {
        credentials.enter_new_namespace()?;
    }
    if flags & CLONE_NEWPID != 0 {
        let new = pid_numbers::new(&credentials)?;
        *pid_namespace.lock() = new;
    }
    if flags & CLONE_NEWUSER != 0 {
        let _old = core::mem::replace(&mut *task.process.credentials.lock(), credentials);
    }
    if flags & CLONE_FS != 0 && Arc::strong_count(&task.fs) > 1 {
        let copy = Arc::new(task.fs.duplicate());
        drop(task.fs.replace(Some(copy)));
    }
    if flags & CLONE_FILES != 0 && Arc::strong_count(&task.files) > 1 {
        let copy = Arc::new(task.files.duplicate()?);
        drop(task.files.replace(Some(copy)));
    }
    Ok(0)
}
