//! iopl and ioperm: who may ask for I/O ports.

use portcullis::x86_64::segments::IO_PORTS;

use crate::errno::{Errno, Result};
use crate::sched::segments::port_rights;
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::capable::capable;

/// iopl(2).
pub fn sys_iopl(level: u64) -> Result<usize> {
    let level = level as u32;
    if level > 3 {
        return Err(Errno::EINVAL);
    }
    if level > u32::from(port_rights::level()) && !capable(Capability::SysRawio) {
        return Err(Errno::EPERM);
    }
    port_rights::set_level(level as u8);
    Ok(0)
}

/// ioperm(2).
pub fn sys_ioperm(from: u64, count: u64, allow: u64) -> Result<usize> {
    let end = from.wrapping_add(count);
    if end <= from || end > IO_PORTS as u64 {
        return Err(Errno::EINVAL);
    }
    let allow = allow as i32 != 0;
    if allow && !capable(Capability::SysRawio) {
        return Err(Errno::EPERM);
    }
    port_rights::change(from..end, allow)?;
    Ok(0)
}
