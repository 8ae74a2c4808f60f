//! What a tracer can see of a task's filters: PTRACE_SECCOMP_GET_FILTER and PTRACE_SECCOMP_GET_METADATA.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::credentials::capable;
use crate::task::seccomp::bpf::Instruction;
use crate::task::seccomp::filter::{Attached, Filter};
use crate::task::seccomp::{DISABLED, FILTER};
use crate::task::tree::tree;
use crate::task::{Task, current};
use crate::work::seccomp::attach::flag;

/// A task's filter number `n`, from the oldest.
fn nth(task: &Task, n: u64) -> Result<Arc<Filter>> {
    // Who is filtered himself is not to learn how.
    if !capable::is_admin() || current().hooks.seccomp.mode() != DISABLED {
        return Err(Errno::EACCES);
    }
    if task.hooks.seccomp.mode() != FILTER {
        return Err(Errno::EINVAL);
    }
    let newest = task.hooks.seccomp.attached(&*tree()).map(Attached::share);
    let mut filter = newest.ok_or(Errno::EINVAL)?;
    let count = filter.chain().count() as u64;
    let back = count.checked_sub(1 + n).ok_or(Errno::ENOENT)?;
    for _ in 0..back {
        filter = filter.previous().ok_or(Errno::ENOENT)?;
    }
    Ok(filter)
}

/// PTRACE_SECCOMP_GET_FILTER: how many instructions it has; copies them unless `to` is null.
pub fn get_filter(task: &Task, n: u64, to: u64) -> Result<usize> {
    let filter = nth(task, n)?;
    let raw: Vec<u64> = filter.program().iter().map(|instruction: &Instruction| instruction.raw()).collect();
    if to != 0 {
        user::write(to, raw.as_slice())?;
    }
    Ok(raw.len())
}

/// PTRACE_SECCOMP_GET_METADATA: the number is read from the structure (number, flags), the flags are written to it.
pub fn get_metadata(task: &Task, size: u64, address: u64) -> Result<usize> {
    let len = (size as usize).min(16);
    if len < 8 {
        return Err(Errno::EINVAL);
    }
    let n: u64 = user::read(address)?;
    let filter = nth(task, n)?;
    let flags = if filter.log { u64::from(flag::LOG) } else { 0 };
    let metadata = [n, flags];
    // SAFETY: at most the array's length.
    unsafe { user::copy_to_user(address, metadata.as_ptr().cast(), len) }?;
    Ok(len)
}
