//! User and group ids of 16 bits: what i386 had before `getuid32` and its kin.

use crate::calls::credentials;
use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::credentials::uid_gid::Kind;

/// "Leave it as it is."
const KEEP: u16 = u16::MAX;
/// What stands for an id that does not fit (Linux: `overflowuid`).
const OVERFLOW: u16 = 65534;

/// A 16-bit argument as the 32-bit call takes it.
pub const fn widen(id: u64) -> u64 {
    if id as u16 == KEEP { u32::MAX as u64 } else { id as u16 as u64 }
}

/// A 32-bit id as a 16-bit call reports it.
pub const fn narrow(id: u32) -> u16 {
    if id > u16::MAX as u32 { OVERFLOW } else { id as u16 }
}

/// The result of a call that returns an id.
pub fn narrowed(result: Result<usize>) -> Result<usize> {
    result.map(|id| narrow(id as u32).into())
}

/// getgroups(2).
pub fn sys_getgroups16(size: u64, address: u64) -> Result<usize> {
    let groups = credentials::groups();
    let size = size as i32;
    if size < 0 || size != 0 && (size as usize) < groups.len() {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        for (at, &group) in (address..).step_by(2).zip(groups.iter()) {
            user::write(at, &narrow(group))?;
        }
    }
    Ok(groups.len())
}

/// getresuid(2), getresgid(2).
pub fn sys_get_res16(kind: Kind, real: u64, effective: u64, saved: u64) -> Result<usize> {
    for (address, id) in [real, effective, saved].into_iter().zip(credentials::real_effective_saved(kind)) {
        user::write(address, &narrow(id))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_do_not_fit_are_overflowuid_and_minus_one_is_kept() {
        // include/linux/highuid.h: low2highuid, high2lowuid.
        assert_eq!([0, 1, 65534, 65535, 65536].map(narrow), [0, 1, 65534, 65535, 65534]);
        assert_eq!([0, 65534, 0xffff, 0xdead_ffff].map(widen), [0, 65534, 0xffff_ffff, 0xffff_ffff]);
        assert_eq!((narrowed(Ok(100_000)), narrowed(Err(Errno::EPERM))), (Ok(65534), Err(Errno::EPERM)));
    }
}
