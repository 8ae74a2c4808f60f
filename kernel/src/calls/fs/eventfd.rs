//! eventfd(2) and eventfd2(2). The counter itself is [`fs::eventfd`](crate::fs::eventfd).

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::eventfd::new_eventfd;
use crate::task::current;

/// eventfd2(2).
pub fn sys_eventfd2(initial: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    if flags & !(abi::EFD_SEMAPHORE | abi::EFD_CLOEXEC | abi::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = new_eventfd(initial as u32 as u64, flags & abi::EFD_SEMAPHORE != 0, flags & abi::EFD_NONBLOCK);
    let fd = current().files.install(file, flags & abi::EFD_CLOEXEC != 0)?;
    Ok(fd as usize)
}

/// eventfd(2).
pub fn sys_eventfd(initial: u64) -> Result<usize> {
    sys_eventfd2(initial, 0)
}
