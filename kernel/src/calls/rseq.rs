//! rseq(2). What is done for a registered area is [`work::rseq`](crate::work::rseq).

use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::current;
use crate::work::rseq;
use crate::work::rseq::AREA_SIZE;

/// `RSEQ_FLAG_UNREGISTER`.
const UNREGISTER: i32 = 1;

/// rseq(2).
pub fn sys_rseq(area: u64, len: u64, flags: u64, signature: u64) -> Result<usize> {
    let registered = &current().hooks.rseq;
    let (len, flags, signature) = (len as u32, flags as i32, signature as u32);
    let now = registered.area.load(Relaxed);
    let same = now == area && u64::from(len) == AREA_SIZE;
    if flags & UNREGISTER != 0 {
        if flags != UNREGISTER || now == 0 || !same {
            return Err(Errno::EINVAL);
        }
        if registered.signature.load(Relaxed) != signature {
            return Err(Errno::EPERM);
        }
        rseq::unregister()?;
        return Ok(0);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if now != 0 {
        return Err(if !same {
            Errno::EINVAL
        } else if registered.signature.load(Relaxed) != signature {
            Errno::EPERM
        } else {
            Errno::EBUSY
        });
    }
    if !area.is_multiple_of(AREA_SIZE) || u64::from(len) != AREA_SIZE {
        return Err(Errno::EINVAL);
    }
    if !user::is_user_range(area, AREA_SIZE) {
        return Err(Errno::EFAULT);
    }
    rseq::register(area, signature)?;
    Ok(0)
}
