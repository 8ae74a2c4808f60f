//! rseq(2) of Linux 7.2. What is done for a registered area is [`work::rseq`](crate::work::rseq).

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::current;
use crate::task::rseq::is_valid_length;
use crate::work::rseq;

/// `RSEQ_FLAG_UNREGISTER`.
const UNREGISTER: i32 = 1;

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
    if flags != 0 {
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
    rseq::register(area, len, signature)?;
    Ok(0)
}
