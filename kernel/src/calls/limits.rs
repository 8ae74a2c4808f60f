//! getrlimit, setrlimit, prlimit.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::capable::{capable, capable_in};
use crate::task::credentials::uid_gid::Ids;
use crate::task::limits::{COUNT, Limit};
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::process::Process;
use crate::task::{current, tree};
use crate::vfs::fd::MAX_DESCRIPTORS;

/// The most that the oldest 32-bit call, i386's `getrlimit`, reports.
const MOST_OLD: u64 = i32::MAX as u64;

fn exchange(process: &Process, which: u64, new: Option<Limit>) -> Result<Limit> {
    let which = which as u32 as usize;
    if which >= COUNT {
        return Err(Errno::EINVAL);
    }
    let may_raise = new.is_some() && capable(Capability::SysResource);
    let mut limits = process.limits.lock();
    let old = limits.0[which];
    if let Some(new) = new {
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if which == RLIMIT_NOFILE as usize && new.hard > MAX_DESCRIPTORS || new.hard > old.hard && !may_raise {
            return Err(Errno::EPERM);
        }
        limits.0[which] = new;
        if which == RLIMIT_CPU as usize {
            process.timers.arm_cpu();
        }
    }
    Ok(old)
}

/// getrlimit(2).
pub fn sys_getrlimit(which: u64, address: u64) -> Result<usize> {
    exchange(&current().process, which, None)?.write(address)?;
    Ok(0)
}

/// i386's first getrlimit(2): signed limits.
pub fn sys_old_getrlimit(which: u64, address: u64) -> Result<usize> {
    let limit = exchange(&current().process, which, None)?;
    let limit = Limit { soft: limit.soft.min(MOST_OLD), hard: limit.hard.min(MOST_OLD) };
    limit.write(address)?;
    Ok(0)
}

/// setrlimit(2).
pub fn sys_setrlimit(which: u64, address: u64) -> Result<usize> {
    let new = Limit::read(address)?;
    exchange(&current().process, which, Some(new))?;
    Ok(0)
}

/// The process with this id, or that of the thread with it.
fn find(id: Pid) -> Option<Arc<Process>> {
    tree::find(id).or_else(|| Some(tree::find_task(id)?.process.clone()))
}

/// EPERM unless the process is the current one, has its real ids in all roles, or is subject to CAP_SYS_RESOURCE.
fn check_other(process: &Process) -> Result<()> {
    let own = &current().process;
    if core::ptr::eq(&**own, process) {
        return Ok(());
    }
    let (user, group) = {
        let mine = own.credentials.lock();
        (mine.user.real, mine.group.real)
    };
    let theirs = process.credentials.lock().clone();
    let is = |ids: Ids, id: u32| [ids.real, ids.effective, ids.saved] == [id; 3];
    if is(theirs.user, user) && is(theirs.group, group) || capable_in(&theirs.namespace, Capability::SysResource) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// prlimit64(2).
pub fn sys_prlimit64(pid: u64, which: u64, new: u64, old: u64) -> Result<usize> {
    let new = if new == 0 { None } else { Some(user::read::<Limit>(new)?) };
    let process = match pid as Pid {
        0 => current().process.clone(),
        pid => find(meant(pid)).ok_or(Errno::ESRCH)?,
    };
    check_other(&process)?;
    let limit = exchange(&process, which, new)?;
    if old != 0 {
        user::write(old, &limit)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
