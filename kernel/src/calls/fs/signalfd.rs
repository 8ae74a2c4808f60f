//! signalfd(2) and signalfd4(2). The descriptor itself is [`signal::signalfd`](crate::signal::signalfd).

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::signal::signalfd::{new_signalfd, set_mask};
use crate::task::current;
use crate::task::signals::set::SigSet;

/// signalfd4(2).
pub fn sys_signalfd4(fd: u64, mask: u64, size: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    if flags & !(abi::O_CLOEXEC | abi::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    SigSet::check_size(size)?;
    let mask = user::read::<SigSet>(mask)?.without(SigSet::UNBLOCKABLE);
    let files = &current().files;
    if fd as i32 != -1 {
        set_mask(&*files.get(fd)?, mask)?;
        return Ok(fd as u32 as usize);
    }
    let file = new_signalfd(mask, flags & abi::O_NONBLOCK);
    Ok(files.install(file, flags & abi::O_CLOEXEC != 0)? as usize)
}

/// signalfd(2).
pub fn sys_signalfd(fd: u64, mask: u64, size: u64) -> Result<usize> {
    sys_signalfd4(fd, mask, size, 0)
}
