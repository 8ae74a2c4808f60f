//! timerfd_create(2), timerfd_settime(2), timerfd_gettime(2). The timer itself is [`fs::timerfd`](crate::fs::timerfd).

use linux_raw_sys::general as abi;

use crate::calls::timers::Itimerspec;
use crate::errno::{Errno, Result};
use crate::fs::timerfd::{new_timerfd, timer_of};
use crate::memory::width::Width;
use crate::task::credentials::capable;
use crate::task::current;

/// timerfd_create(2).
pub fn sys_timerfd_create(clock_id: u64, flags: u64) -> Result<usize> {
    let (clock_id, flags) = (clock_id as u32, flags as u32);
    let wakes_machine = match clock_id {
        abi::CLOCK_MONOTONIC | abi::CLOCK_REALTIME | abi::CLOCK_BOOTTIME => false,
        abi::CLOCK_REALTIME_ALARM | abi::CLOCK_BOOTTIME_ALARM => true,
        _ => return Err(Errno::EINVAL),
    };
    if flags & !(abi::TFD_CLOEXEC | abi::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if wakes_machine && !capable::is_admin() {
        return Err(Errno::EPERM);
    }
    let file = new_timerfd(clock_id, flags & abi::TFD_NONBLOCK);
    Ok(current().files.install(file, flags & abi::TFD_CLOEXEC != 0)? as usize)
}

/// timerfd_settime(2).
pub fn sys_timerfd_settime(fd: u64, flags: u64, new: u64, old: u64) -> Result<usize> {
    timerfd_settime(Width::Bits64, fd, flags, new, old)
}

/// timerfd_settime(2) with `itimerspec`s of this width.
pub fn timerfd_settime(width: Width, fd: u64, flags: u64, new: u64, old: u64) -> Result<usize> {
    let flags = flags as u32;
    let new = Itimerspec::read(width, new)?;
    if flags & !(abi::TFD_TIMER_ABSTIME | abi::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let (interval, value) = new.to_ns()?;
    let file = current().files.get(fd)?;
    let (old_interval, left) = timer_of(&file)?.set(flags, interval, value)?;
    if old != 0 {
        Itimerspec::from_ns(old_interval, left).write(width, old)?;
    }
    Ok(0)
}

/// timerfd_gettime(2).
pub fn sys_timerfd_gettime(fd: u64, address: u64) -> Result<usize> {
    timerfd_gettime(Width::Bits64, fd, address)
}

/// timerfd_gettime(2) with an `itimerspec` of this width.
pub fn timerfd_gettime(width: Width, fd: u64, address: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let (interval, left) = timer_of(&file)?.setting();
    Itimerspec::from_ns(interval, left).write(width, address)?;
    Ok(0)
}
