//! rseq(2), rseq_slice_yield(2) and prctl(PR_RSEQ_SLICE_EXTENSION) of Linux 7.2. What is done for a registered area is
//! [`work::rseq`](crate::work::rseq) and [`work::slice_extension`](crate::work::slice_extension).

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::current;
use crate::task::rseq::is_valid_length;
use crate::work::{rseq, slice_extension};

/// `RSEQ_FLAG_UNREGISTER`.
const UNREGISTER: i32 = 1;
/// `RSEQ_FLAG_SLICE_EXT_DEFAULT_ON`.
const EXTENSIONS_ON: i32 = 2;

/// rseq(2).
pub fn sys_rseq(area: u64, len: u64, flags: u64, signature: u64) -> Result<usize> {
    let (len, flags, signature) = (len as u32, flags as i32, signature as u32);
    let now = current().hooks.rseq.registration();
    let is_registered = now.0 != 0;
    let is_same = (now.0, now.1) == (area, len);
    if flags & UNREGISTER != 0 {
        if flags != UNREGISTER || !is_registered || !is_same {
            return Err(Errno::EINVAL);
        }
        if now.2 != signature {
            return Err(Errno::EPERM);
        }
        rseq::unregister()?;
        return Ok(0);
    }
    if flags & !EXTENSIONS_ON != 0 {
        return Err(Errno::EINVAL);
    }
    if is_registered {
        return Err(if !is_same {
            Errno::EINVAL
        } else if now.2 != signature {
            Errno::EPERM
        } else {
            Errno::EBUSY
        });
    }
    if !is_valid_length(area, len) {
        return Err(Errno::EINVAL);
    }
    if !user::is_user_range(area, len.into()) {
        return Err(Errno::EFAULT);
    }
    rseq::register(area, len, signature, flags & EXTENSIONS_ON != 0)?;
    Ok(0)
}

/// rseq_slice_yield(2): 1 if it has ended an extension. The hook before the call has done it.
pub fn sys_rseq_slice_yield() -> Result<usize> {
    Ok(slice_extension::take_yielded().into())
}

/// `PR_RSEQ_SLICE_EXTENSION`, what it does, and its flag.
pub const PR_RSEQ_SLICE_EXTENSION: u32 = 79;
const GET: u64 = 1;
const SET: u64 = 2;
const ENABLE: u64 = 1;

/// prctl(PR_RSEQ_SLICE_EXTENSION).
pub fn prctl_slice_extension(what: u64, flags: u64, rest: u64) -> Result<usize> {
    match what {
        GET if flags | rest == 0 => Ok(if slice_extension::is_enabled() { ENABLE as usize } else { 0 }),
        SET if flags & !ENABLE | rest == 0 => slice_extension::set_enabled(flags == ENABLE).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
