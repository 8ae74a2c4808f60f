//! Attaching filters: `seccomp(2)` and `prctl(PR_SET_SECCOMP)`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use zerocopy::FromBytes;

use crate::errno::{Errno, Result};
use crate::memory::{Width, frames, user};
use crate::task::credentials::capable;
use crate::task::pid::Pid;
use crate::task::pid::numbers::seen;
use crate::task::seccomp::bpf::Instruction;
use crate::task::seccomp::filter::{Attached, Filter, action};
use crate::task::seccomp::{DISABLED, FILTER, STRICT, bpf};
use crate::task::tree::{Tree, tree};
use crate::task::{Task, current};
use crate::work::seccomp::{follow, notify};

/// `SECCOMP_SET_MODE_STRICT` and its like.
const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;

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

/// seccomp(2).
pub fn sys_seccomp(operation: u64, flags: u64, argument: u64) -> Result<usize> {
    let flags = flags as u32;
    match operation as u32 {
        SET_MODE_STRICT if flags == 0 && argument == 0 => set_strict(),
        SET_MODE_FILTER => set_filter(flags, argument),
        GET_ACTION_AVAIL if flags == 0 => is_available(user::read(argument)?),
        GET_NOTIF_SIZES if flags == 0 => {
            user::write(argument, &notify::SIZES)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(PR_SET_SECCOMP): the mode and, for filters, the program.
pub fn prctl_set(mode: u64, program: u64) -> Result<usize> {
    match u8::try_from(mode) {
        Ok(STRICT) => set_strict(),
        Ok(FILTER) => set_filter(0, program),
        _ => Err(Errno::EINVAL),
    }
}

fn is_available(action: u32) -> Result<usize> {
    match action {
        action::KILL_PROCESS
        | action::KILL_THREAD
        | action::TRAP
        | action::ERRNO
        | action::USER_NOTIF
        | action::TRACE
        | action::LOG
        | action::ALLOW => Ok(0),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn set_strict() -> Result<usize> {
    let task = current();
    let _tree = tree();
    may_become(task, STRICT)?;
    task.hooks.seccomp.enable(task, STRICT);
    Ok(0)
}

/// A mode is for ever.
fn may_become(task: &Task, mode: u8) -> Result<()> {
    let now = task.hooks.seccomp.mode();
    if now == DISABLED || now == mode { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `struct sock_fprog`.
#[derive(FromBytes)]
#[repr(C)]
struct Program {
    len: u16,
    padding: [u16; 3],
    instructions: u64,
}

/// The same of a 32-bit program.
#[derive(FromBytes)]
#[repr(C)]
struct Program32 {
    len: u16,
    padding: u16,
    instructions: u32,
}

/// Reads a program and checks it.
fn read_program(address: u64) -> Result<Vec<Instruction>> {
    let (len, instructions) = match Width::of_call() {
        Width::Bits64 => {
            let program: Program = user::read(address)?;
            (program.len, program.instructions)
        }
        Width::Bits32 => {
            let program: Program32 = user::read(address)?;
            (program.len, program.instructions.into())
        }
    };
    let len = usize::from(len);
    if len == 0 || len > bpf::MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    // Otherwise a child with more rights would be at the filter's mercy.
    if !current().no_new_privs.load(Relaxed) && !capable::is_admin_here() {
        return Err(Errno::EACCES);
    }
    frames::require_spare()?;
    let mut raw = alloc::vec![0u64; len];
    // SAFETY: the length of the vector.
    unsafe { user::copy_from_user(raw.as_mut_ptr().cast(), instructions, size_of_val(raw.as_slice())) }?;
    let program: Vec<_> = raw.into_iter().map(Instruction::from_raw).collect();
    if bpf::check(&program) { Ok(program) } else { Err(Errno::EINVAL) }
}

fn set_filter(flags: u32, address: u64) -> Result<usize> {
    let has = |flag| flags & flag != 0;
    // A thread's number and a descriptor could not be told apart.
    let ambiguous = has(flag::TSYNC) && has(flag::NEW_LISTENER) && !has(flag::TSYNC_ESRCH);
    if flags & !flag::ALL != 0 || ambiguous || has(flag::WAIT_KILLABLE_RECV) && !has(flag::NEW_LISTENER) {
        return Err(Errno::EINVAL);
    }
    let program = read_program(address)?;
    let task = current();
    loop {
        let before = task.hooks.seccomp.attached(&*tree()).map(Attached::share);
        let previous = before.clone();
        let mut filter = Filter::new(program.clone(), previous).ok_or(Errno::ENOMEM)?;
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
