//! Resource limits.

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::task::capabilities::{Capability, capable, capable_in};
use crate::task::credentials::Ids;
use crate::task::pid_namespace::meant;
use crate::task::process::{Pid, Process};
use crate::task::{current, process};
use crate::vfs::fd::MAX_DESCRIPTORS;

/// `struct rlimit`: the limit, and how far it may be raised. `u64::MAX` is none.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

impl Limit {
    /// As wide as the call's, in which all ones stand for no limit, too.
    fn read(address: u64) -> Result<Limit> {
        let [soft, hard] = c_long::read_unsigned(address)?.map(|limit| match Width::of_call() {
            Width::Bits32 if limit == NONE_32 => u64::MAX,
            _ => limit,
        });
        Ok(Limit { soft, hard })
    }

    /// What a 32-bit program cannot say is no limit.
    fn write(self, address: u64) -> Result<()> {
        let limits = [self.soft, self.hard].map(|limit| match Width::of_call() {
            Width::Bits32 => limit.min(NONE_32),
            Width::Bits64 => limit,
        });
        c_long::write_unsigned(address, limits)
    }
}

/// "No limit" in the 32-bit structure.
const NONE_32: u64 = u32::MAX as u64;
/// The most that the oldest 32-bit call, i386's `getrlimit`, reports.
const MOST_OLD: u64 = i32::MAX as u64;

const COUNT: usize = 16;
const NONE: Limit = Limit { soft: u64::MAX, hard: u64::MAX };

/// All limits of a process.
#[derive(Clone)]
pub struct Limits([Limit; COUNT]);

impl Default for Limits {
    /// As Linux starts its first process.
    fn default() -> Self {
        let mut limits = [NONE; COUNT];
        let mut set = |which: u32, soft, hard| limits[which as usize] = Limit { soft, hard };
        set(RLIMIT_STACK, 8 << 20, u64::MAX);
        set(RLIMIT_CORE, 0, u64::MAX);
        set(RLIMIT_NOFILE, 1024, MAX_DESCRIPTORS);
        set(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(RLIMIT_NPROC, 4096, 4096);
        set(RLIMIT_SIGPENDING, 4096, 4096);
        set(RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(RLIMIT_NICE, 0, 0);
        set(RLIMIT_RTPRIO, 0, 0);
        Limits(limits)
    }
}

impl Limits {
    /// Whether they bound CPU time.
    pub fn bound_cpu(&self) -> bool {
        self.0[RLIMIT_CPU as usize].soft != u64::MAX
    }

    /// The signal that is due if more CPU seconds were used than RLIMIT_CPU allows. SIGXCPU comes once per second.
    pub fn cpu_exceeded(&mut self, used: u64) -> Option<u32> {
        if !self.bound_cpu() {
            return None;
        }
        let limit = &mut self.0[RLIMIT_CPU as usize];
        if used >= limit.hard {
            Some(SIGKILL)
        } else if used >= limit.soft {
            limit.soft += 1;
            Some(SIGXCPU)
        } else {
            None
        }
    }
}

impl Process {
    /// A resource limit (`RLIMIT_*`): soft and hard.
    pub fn rlimit(&self, which: u32) -> (u64, u64) {
        let limit = self.limits.lock().0[which as usize];
        (limit.soft, limit.hard)
    }

    /// Makes a soft limit `most` at most.
    pub fn limit_soft(&self, which: u32, most: u64) {
        let limit = &mut self.limits.lock().0[which as usize];
        limit.soft = limit.soft.min(most);
    }
}

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
    process::find(id).or_else(|| Some(process::find_task(id)?.process.clone()))
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
