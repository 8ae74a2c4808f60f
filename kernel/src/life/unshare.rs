//! Unsharing: a thread stops sharing what it got from `clone`, or goes into a namespace of its own.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::life::clone_flags::CloneFlags;
use crate::task::current;
use crate::task::pid::{namespace, numbers};

/// Unshares what the flags name for the current thread.
pub fn unshare(mut flags: CloneFlags) -> Result<()> {
    const ALONE: CloneFlags = CloneFlags::THREAD.union(CloneFlags::SIGHAND).union(CloneFlags::VM);
    const SUPPORTED: CloneFlags = ALONE
        .union(CloneFlags::FS)
        .union(CloneFlags::FILES)
        .union(CloneFlags::SYSVSEM)
        .union(CloneFlags::NEWUSER)
        .union(CloneFlags::NEWPID)
        .union(CloneFlags::NEWNS);
    let task = current();
    if !SUPPORTED.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::NEWUSER) {
        // A directory that is shared with others must not be their way out of where they were put.
        flags |= CloneFlags::THREAD | CloneFlags::FS;
    }
    if flags.contains(CloneFlags::NEWNS) {
        flags |= CloneFlags::FS;
    }
    // Threads cannot be taken apart: these say that there must be no others.
    if flags.intersects(ALONE) && task.process.threads().len() > 1 {
        return Err(Errno::EINVAL);
    }
    let pid_namespace = &task.pid_namespace_of_children;
    if flags.contains(CloneFlags::NEWPID) && !namespace::is_same(&pid_namespace.lock(), &task.process.pid_namespace) {
        return Err(Errno::EINVAL);
    }
    let mut credentials = task.process.credentials.lock().clone();
    if flags.contains(CloneFlags::NEWUSER) {
        credentials.enter_new_namespace()?;
    }
    let own_mounts = flags.contains(CloneFlags::NEWNS).then(|| credentials.own_mounts(&task.fs)).transpose()?;
    if flags.contains(CloneFlags::NEWPID) {
        let new = numbers::new(&credentials)?;
        *pid_namespace.lock() = new;
    }
    if flags.contains(CloneFlags::NEWUSER) {
        let _old = core::mem::replace(&mut *task.process.credentials.lock(), credentials);
    }
    if let Some(context) = own_mounts {
        drop(task.fs.replace(Some(Arc::new(context))));
    } else if flags.contains(CloneFlags::FS) && Arc::strong_count(&task.fs) > 1 {
        let copy = Arc::new(task.fs.duplicate());
        drop(task.fs.replace(Some(copy)));
    }
    if flags.contains(CloneFlags::FILES) && Arc::strong_count(&task.files) > 1 {
        let copy = Arc::new(task.files.duplicate()?);
        drop(task.files.replace(Some(copy)));
    }
    Ok(())
}
