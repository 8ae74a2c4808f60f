//! Attaching filters.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use crate::errno::{Errno, Result};
use crate::task::pid::Pid;
use crate::task::pid::numbers::seen;
use crate::task::seccomp::bpf::Instruction;
use crate::task::seccomp::filter::{Attached, Filter};
use crate::task::seccomp::{DISABLED, FILTER, STRICT};
use crate::task::tree::{Tree, tree};
use crate::task::{Task, current};
use crate::work::seccomp::{follow, notify};

/// `SECCOMP_FILTER_FLAG_*`.
pub mod flag {
    /// All threads get the filter.
    pub const TSYNC: u32 = 1;
    /// Log what is not allowed.
    pub const LOG: u32 = 2;
    /// Leave speculation as it is. There is nothing that would be turned off.
    pub const SPEC_ALLOW: u32 = 4;
    /// Give a descriptor for notifications.
    pub const NEW_LISTENER: u32 = 8;
    /// Say ESRCH, and not which thread stood in the way.
    pub const TSYNC_ESRCH: u32 = 16;
    /// Notifications that were received are waited for to the end.
    pub const WAIT_KILLABLE_RECV: u32 = 32;
    pub const ALL: u32 = TSYNC | LOG | SPEC_ALLOW | NEW_LISTENER | TSYNC_ESRCH | WAIT_KILLABLE_RECV;
}

/// Allows the current task nothing but read, write, exit and sigreturn.
pub fn set_strict() -> Result<()> {
    let task = current();
    let _tree = tree();
    may_become(task, STRICT)?;
    task.hooks.seccomp.enable(task, STRICT);
    Ok(())
}

/// A mode is for ever.
fn may_become(task: &Task, mode: u8) -> Result<()> {
    let now = task.hooks.seccomp.mode();
    if now == DISABLED || now == mode { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Attaches a filter with this program to the current task. `flags`: of [`flag`]. Returns what seccomp(2) does: 0, a
/// descriptor for notifications, or the thread that stood in the way.
pub fn set_filter(flags: u32, program: &[Instruction]) -> Result<usize> {
    let has = |flag| flags & flag != 0;
    let task = current();
    loop {
        let before = task.hooks.seccomp.attached(&*tree()).map(Attached::share);
        let previous = before.clone();
        let mut filter = Filter::new(program.to_vec(), previous).ok_or(Errno::ENOMEM)?;
        filter.log = has(flag::LOG);
        filter.wait_killable = has(flag::WAIT_KILLABLE_RECV);
        if has(flag::NEW_LISTENER) {
            filter.listener.open();
        }
        let filter = Arc::new(filter);
        // Otherwise another thread's TSYNC was faster, and the filter has to follow that one.
        if let Some(result) = attach(task, before, filter, flags) {
            return result;
        }
    }
}

/// Makes the filter the newest of the current task, and of all threads with TSYNC. None if `before` is no longer what it
/// follows.
fn attach(task: &Task, before: Option<Arc<Filter>>, filter: Arc<Filter>, flags: u32) -> Option<Result<usize>> {
    let listener = if flags & flag::NEW_LISTENER != 0 {
        match task.files.install(notify::file(filter.clone()), true) {
            Ok(fd) => Some(fd),
            Err(error) => return Some(Err(error)),
        }
    } else {
        None
    };
    let mut replaced = Vec::new();
    let result = {
        let mut tree = tree();
        let now = task.hooks.seccomp.attached(&*tree).map(Attached::share);
        let same = now.as_ref().map(Arc::as_ptr) == before.as_ref().map(Arc::as_ptr);
        same.then(|| attach_locked(task, &mut tree, filter, flags, &mut replaced))
    };
    // With the tree unlocked: what is dropped here may wake others.
    drop(replaced);
    match (result, listener) {
        (Some(Ok(None)), listener) => Some(Ok(listener.unwrap_or(0) as usize)),
        (result, listener) => {
            if let Some(fd) = listener {
                // Unless another thread has closed it already.
                let _ = task.files.close(fd);
            }
            result.map(|result| result.map(|thread| thread.unwrap_or(0) as usize))
        }
    }
}

/// The part under the tree's lock. Gives the thread that stood in the way of TSYNC.
fn attach_locked(
    task: &Task,
    tree: &mut Tree,
    filter: Arc<Filter>,
    flags: u32,
    replaced: &mut Vec<Option<Attached>>,
) -> Result<Option<Pid>> {
    may_become(task, FILTER)?;
    if filter.listener.is_open() && filter.chain().skip(1).any(|older| older.listener.is_open()) {
        return Err(Errno::EBUSY);
    }
    let others: Vec<Arc<Task>> = match tree.node(task.process.pid) {
        Some(node) if flags & flag::TSYNC != 0 => {
            (node.threads.iter()).filter(|thread| thread.tid() != task.tid()).cloned().collect()
        }
        _ => Vec::new(),
    };
    for thread in &others {
        let fits = match thread.hooks.seccomp.mode() {
            DISABLED => true,
            FILTER => match thread.hooks.seccomp.attached(tree) {
                Some(theirs) => filter.chain().any(|ours| core::ptr::eq(ours, &**theirs)),
                None => true,
            },
            _ => false,
        };
        if !fits && flags & flag::TSYNC_ESRCH != 0 {
            return Err(Errno::ESRCH);
        }
        if !fits {
            return Ok(Some(seen(thread.tid())));
        }
    }
    replaced.push(follow(task, tree, filter));
    task.hooks.seccomp.enable(task, FILTER);
    for thread in &others {
        let ours = task.hooks.seccomp.attached(tree).cloned();
        replaced.push(thread.hooks.seccomp.replace(tree, ours));
        // What binds the one who brings the filter binds those it is brought to.
        if task.no_new_privs.load(Relaxed) {
            thread.no_new_privs.store(true, Relaxed);
        }
        thread.hooks.seccomp.enable(thread, FILTER);
    }
    Ok(None)
}
