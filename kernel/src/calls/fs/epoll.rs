//! epoll_create(2), epoll_ctl(2), epoll_wait(2). The set itself is [`fs::epoll`](crate::fs::epoll).

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::epoll;
use crate::fs::epoll::Event;
use crate::memory::user;
use crate::sched::wait::{FOREVER, deadline_after};
use crate::signal::mask::with_mask;
use crate::task::current;

/// epoll_create1(2).
pub fn sys_epoll_create1(flags: u64) -> Result<usize> {
    if flags as u32 & !abi::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = epoll::new_epoll();
    Ok(current().files.install(file, flags as u32 & abi::EPOLL_CLOEXEC != 0)? as usize)
}

/// epoll_create(2). The size is only checked.
pub fn sys_epoll_create(size: u64) -> Result<usize> {
    if size as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    sys_epoll_create1(0)
}

/// epoll_ctl(2).
pub fn sys_epoll_ctl(epfd: u64, operation: u64, fd: u64, event: u64) -> Result<usize> {
    let operation = operation as u32;
    let event: Option<Event> = match operation {
        abi::EPOLL_CTL_DEL => None,
        _ => Some(user::read(event)?),
    };
    let files = &current().files;
    let set = files.get(epfd)?;
    let file = files.get(fd)?;
    epoll::control(&set, operation, fd as i32, &file, event)?;
    Ok(0)
}

/// Waits until a deadline and writes what was found to `events`.
fn wait_until(epfd: u64, events: u64, limit: u64, deadline: u64) -> Result<usize> {
    let limit = limit as i32;
    if limit <= 0 || limit as usize > i32::MAX as usize / size_of::<Event>() {
        return Err(Errno::EINVAL);
    }
    let set = current().files.get(epfd)?;
    let found = epoll::wait(&set, limit as usize, deadline)?;
    for (index, event) in found.iter().enumerate() {
        user::write(events + (index * size_of::<Event>()) as u64, event)?;
    }
    Ok(found.len())
}

fn deadline_from(milliseconds: u64) -> u64 {
    match milliseconds as i32 {
        milliseconds @ 0.. => deadline_after(milliseconds as u64 * 1_000_000),
        _ => FOREVER,
    }
}

/// epoll_pwait(2).
pub fn sys_epoll_pwait(epfd: u64, events: u64, limit: u64, timeout: u64, sigmask: u64, size: u64) -> Result<usize> {
    with_mask(sigmask, size, || wait_until(epfd, events, limit, deadline_from(timeout))).map_err(|error| match error {
        // With a handler or without, a wait that a signal ended is not restarted.
        Errno::ERESTARTNOHAND => Errno::EINTR,
        other => other,
    })
}

/// epoll_wait(2).
pub fn sys_epoll_wait(epfd: u64, events: u64, limit: u64, timeout: u64) -> Result<usize> {
    sys_epoll_pwait(epfd, events, limit, timeout, 0, 0)
}
