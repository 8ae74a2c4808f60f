//! The `sched_*` calls: affinity counts, policies and priorities are only kept.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER, RLIMIT_NICE, RLIMIT_RTPRIO};

use crate::errno::{Errno, Result};
use crate::machine::cpu;
use crate::memory::user;
use crate::memory::width::Width;
use crate::sched::{scheduler, timer};
use crate::task::clock::Timespec;
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::capable::{capable, capable_in};
use crate::task::credentials::uid_gid::USER;
use crate::task::credentials::user_namespace;
use crate::task::pid::Pid;
use crate::task::pid::numbers::{meant, seen};
use crate::task::{Task, current, current_arc, tree};

fn task_or_self(tid: u64) -> Result<Arc<Task>> {
    match tid as Pid {
        ..0 => Err(Errno::EINVAL),
        0 => Ok(current_arc()),
        tid => tree::find_task(meant(tid)).ok_or(Errno::ESRCH),
    }
}

/// sched_yield(2).
pub fn sys_sched_yield() -> Result<usize> {
    scheduler::yield_now();
    Ok(0)
}

/// Whether the task belongs to the current one's effective user, or is subject to CAP_SYS_NICE.
fn owns(task: &Task) -> bool {
    if core::ptr::eq(&*task.process, &*current().process) {
        return true;
    }
    let effective = current().process.credentials.lock().user.effective;
    let (ids, namespace) = {
        let theirs = task.process.credentials.lock();
        (theirs.user, theirs.namespace.clone())
    };
    [ids.real, ids.effective].contains(&effective) || capable_in(&namespace, Capability::SysNice)
}

fn check_owner(task: &Task) -> Result<()> {
    if owns(task) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether a task may be made as urgent as this nice value: RLIMIT_NICE allows it, or the current task may do so to all.
fn can_nice(task: &Task, nice: i32) -> bool {
    (20 - nice) as u64 <= task.process.rlimit(RLIMIT_NICE).0 || capable(Capability::SysNice)
}

fn online() -> u64 {
    u64::MAX >> (64 - cpu::count())
}

/// sched_setaffinity(2).
pub fn sys_sched_setaffinity(tid: u64, len: u64, address: u64) -> Result<usize> {
    let mut bytes = [0u8; 8];
    let len = (len as usize).min(8);
    // SAFETY: `bytes` has room for `len`.
    unsafe { user::copy_from_user(bytes.as_mut_ptr(), address, len) }?;
    let task = task_or_self(tid)?;
    check_owner(&task)?;
    let mask = u64::from_le_bytes(bytes) & online();
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    // If it is the caller and this CPU is no longer allowed, the way out leads through the scheduler.
    scheduler::set_affinity(&task, mask);
    Ok(0)
}

/// sched_getaffinity(2).
pub fn sys_sched_getaffinity(tid: u64, len: u64, address: u64) -> Result<usize> {
    if len < 8 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mask = task_or_self(tid)?.affinity.load(Relaxed) & online();
    user::write(address, &mask)?;
    Ok(8)
}

/// sched_getscheduler(2).
pub fn sys_sched_getscheduler(tid: u64) -> Result<usize> {
    Ok(task_or_self(tid)?.policy.class.load(Relaxed) as usize)
}

/// SCHED_FIFO and SCHED_RR have priorities 1 to 99; the others 0.
fn priority_range(policy: u64) -> Result<core::ops::RangeInclusive<i32>> {
    match policy {
        1 | 2 => Ok(1..=99),
        0 | 3 | 5 => Ok(0..=0),
        _ => Err(Errno::EINVAL),
    }
}

/// SCHED_RESET_ON_FORK.
const RESET_ON_FORK: u64 = 0x4000_0000;

/// sched_setscheduler(2).
pub fn sys_sched_setscheduler(tid: u64, policy: u64, address: u64) -> Result<usize> {
    let policy = policy & 0xffff_ffff & !RESET_ON_FORK;
    let task = task_or_self(tid)?;
    let priority = user::read::<i32>(address)?;
    if !priority_range(policy)?.contains(&priority) {
        return Err(Errno::EINVAL);
    }
    check_owner(&task)?;
    // A real-time priority beyond the limit, or none allowed at all.
    let limit = task.process.rlimit(RLIMIT_RTPRIO).0;
    let urgent = priority > task.policy.priority.load(Relaxed) && priority as u64 > limit;
    let enters = priority != 0 && policy != task.policy.class.load(Relaxed) as u64 && limit == 0;
    if (urgent || enters) && !capable(Capability::SysNice) {
        return Err(Errno::EPERM);
    }
    task.policy.class.store(policy as i32, Relaxed);
    task.policy.priority.store(priority, Relaxed);
    Ok(0)
}

/// sched_setparam(2).
pub fn sys_sched_setparam(tid: u64, address: u64) -> Result<usize> {
    let policy = task_or_self(tid)?.policy.class.load(Relaxed);
    sys_sched_setscheduler(tid, policy as u64, address)
}

/// sched_getparam(2).
pub fn sys_sched_getparam(tid: u64, address: u64) -> Result<usize> {
    user::write(address, &task_or_self(tid)?.policy.priority.load(Relaxed))?;
    Ok(0)
}

/// sched_get_priority_max(2).
pub fn sys_sched_get_priority_max(policy: u64) -> Result<usize> {
    Ok(*priority_range(policy)?.end() as usize)
}

/// sched_get_priority_min(2).
pub fn sys_sched_get_priority_min(policy: u64) -> Result<usize> {
    Ok(*priority_range(policy)?.start() as usize)
}

/// sched_rr_get_interval(2).
pub fn sys_sched_rr_get_interval(tid: u64, address: u64) -> Result<usize> {
    sched_rr_get_interval(Width::Bits64, tid, address)
}

/// sched_rr_get_interval(2) with a `timespec` of this width.
pub fn sched_rr_get_interval(width: Width, tid: u64, address: u64) -> Result<usize> {
    task_or_self(tid)?;
    Timespec::from_ns(timer::SLICE).write(width, address)?;
    Ok(0)
}

/// The tasks that getpriority and setpriority name.
fn priority_tasks(which: u64, who: u64) -> Result<alloc::vec::Vec<Arc<Task>>> {
    let who = who as Pid;
    let tasks = match which as u32 {
        // Nobody has a negative number, which the calls of sched_*(2) take for a mistake.
        PRIO_PROCESS if who < 0 => return Err(Errno::ESRCH),
        PRIO_PROCESS => alloc::vec![task_or_self(who as u64)?],
        PRIO_PGRP => {
            let pgrp = if who == 0 { current().process.pgrp() } else { meant(who) };
            tree::group(pgrp).iter().flat_map(|process| process.threads()).collect()
        }
        PRIO_USER => {
            let (real, namespace) = {
                let mine = current().process.credentials.lock();
                (mine.user.real, mine.namespace.clone())
            };
            let user = match who {
                0 => Some(real),
                who => user_namespace::meant(&namespace, USER, who as u32).ok(),
            };
            tree::all()
                .iter()
                .filter(|process| seen(process.pid) != 0)
                .filter(|process| Some(process.credentials.lock().user.real) == user)
                .flat_map(|process| process.threads())
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

/// getpriority(2): 20 − nice, as Linux returns it.
pub fn sys_getpriority(which: u64, who: u64) -> Result<usize> {
    let tasks = priority_tasks(which, who)?;
    Ok(tasks.iter().map(|task| 20 - task.policy.nice.load(Relaxed)).max().unwrap_or(20) as usize)
}

/// setpriority(2).
pub fn sys_setpriority(which: u64, who: u64, nice: u64) -> Result<usize> {
    let nice = (nice as i32).clamp(-20, 19);
    let mut result = Ok(0);
    for task in priority_tasks(which, who)? {
        if !owns(&task) {
            result = Err(Errno::EPERM);
        } else if nice < task.policy.nice.load(Relaxed) && !can_nice(&task, nice) {
            result = Err(Errno::EACCES);
        } else {
            task.policy.nice.store(nice, Relaxed);
        }
    }
    result
}

/// getcpu(2).
pub fn sys_getcpu(cpu: u64, node: u64) -> Result<usize> {
    if cpu != 0 {
        user::write(cpu, &(cpu::id() as u32))?;
    }
    if node != 0 {
        user::write(node, &0u32)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use crate::calls::affinity::*;

    #[test]
    fn priorities_are_those_of_sched_7() {
        assert_eq!([1, 2].map(priority_range), [Ok(1..=99), Ok(1..=99)], "SCHED_FIFO, SCHED_RR");
        assert_eq!([0, 3, 5].map(priority_range), [Ok(0..=0), Ok(0..=0), Ok(0..=0)], "OTHER, BATCH, IDLE");
        assert_eq!([4, 6, 7].map(priority_range), [Err(Errno::EINVAL), Err(Errno::EINVAL), Err(Errno::EINVAL)]);
    }
}
