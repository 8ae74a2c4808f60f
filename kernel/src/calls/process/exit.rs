//! exit(2), exit_group(2), wait4(2), waitid(2). How tasks end and are waited for is [`life::exit`](crate::life::exit) and
//! [`life::reap`](crate::life::reap).

use linux_raw_sys::general::*;
use portcullis::InKernel;

use crate::errno::{Errno, Result};
use crate::fs::pidfd;
use crate::life::exit::{do_exit, do_group_exit};
use crate::life::reap::{Which, wait};
use crate::machine::gate::Gate;
use crate::memory::{Width, user};
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::wait_status::WaitStatus;

/// exit(2): ends the calling thread.
pub fn sys_exit(at: &mut InKernel<'_, Gate>, code: u64) -> ! {
    do_exit(at, WaitStatus::exited(code as i32))
}

/// exit_group(2): ends the process.
pub fn sys_exit_group(at: &mut InKernel<'_, Gate>, code: u64) -> ! {
    do_group_exit(at, WaitStatus::exited(code as i32))
}

/// wait4(2).
pub fn sys_wait4(pid: u64, status: u64, options: u64, rusage: u64) -> Result<usize> {
    let options = options as u32;
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid as Pid {
        Pid::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(current().process.pgrp()),
        pid @ 1.. => Which::Pid(meant(pid)),
        group => Which::Group(meant(-group)),
    };
    let Some(report) = wait(which, options | WEXITED, rusage != 0)? else {
        return Ok(0);
    };
    if status != 0 {
        user::write(status, &report.change.status().bits())?;
    }
    if let Some(details) = &report.details {
        details.usage.write(rusage)?;
    }
    Ok(report.pid as usize)
}

/// waitid(2).
pub fn sys_waitid(kind: u64, id: u64, info: u64, options: u64, rusage: u64) -> Result<usize> {
    let options = options as u32;
    let known = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL;
    if options & !known != 0 || options & (WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let id = id as Pid;
    let mut options = options;
    let mut waits = true;
    let file;
    let which = match kind as u32 {
        P_ALL => Which::Any,
        P_PID if id > 0 => Which::Pid(meant(id)),
        P_PGID if id == 0 => Which::Group(current().process.pgrp()),
        P_PGID if id > 0 => Which::Group(meant(id)),
        P_PIDFD if id >= 0 => {
            file = current().files.get(id as u64)?;
            if file.is_nonblocking() && options & WNOHANG == 0 {
                options |= WNOHANG;
                waits = false;
            }
            Which::Process(pidfd::process_of(&file)?)
        }
        _ => return Err(Errno::EINVAL),
    };
    let mut report = wait(which, options, rusage != 0 || info != 0);
    if !waits && matches!(report, Ok(None)) {
        report = Err(Errno::EAGAIN);
    }
    if let Ok(Some(report)) = &report
        && let Some(details) = &report.details
        && rusage != 0
    {
        details.usage.write(rusage)?;
    }
    if info != 0 {
        // Only these fields are written; without a report they are all zero, also where the wait has failed.
        let mut kind = [0; 3];
        let mut child = [0; 3];
        if let Ok(Some(report)) = &report {
            let (code, status) = report.change.code_and_status();
            // signo, errno, code; pid, uid, status
            kind = [SIGCHLD as i32, 0, code];
            child = [report.pid, report.details.as_ref().map_or(0, |details| details.uid) as i32, status];
        }
        // What follows the first three is aligned to pointers.
        let child_at = size_of_val(&kind).next_multiple_of(Width::of_call().word()) as u64;
        user::write(info, &kind)?;
        user::write(info + child_at, &child)?;
    }
    report.map(|_| 0)
}
