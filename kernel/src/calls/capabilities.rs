//! capget, capset, and what prctl does with capabilities.

use linux_raw_sys::prctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::credentials::capabilities::{ALL, Capabilities, Capability, SecureBits};
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::process::Process;
use crate::task::tree::find;

/// The set with one capability. EINVAL if there is no such.
fn single(number: u64) -> Result<u64> {
    match number {
        0..64 if ALL & 1 << number != 0 => Ok(1 << number),
        _ => Err(Errno::EINVAL),
    }
}

/// The current process's capabilities, to be changed.
fn change<T>(f: impl FnOnce(&mut Capabilities) -> Result<T>) -> Result<T> {
    f(&mut current().process.credentials.lock().capabilities)
}

/// prctl(PR_CAPBSET_READ).
pub fn bounding(number: u64) -> Result<usize> {
    let capability = single(number)?;
    change(|capabilities| Ok((capabilities.bounding & capability != 0).into()))
}

/// prctl(PR_CAPBSET_DROP).
pub fn drop_bounding(number: u64) -> Result<usize> {
    change(|capabilities| {
        if !capabilities.has(Capability::Setpcap) {
            return Err(Errno::EPERM);
        }
        capabilities.bounding &= !single(number)?;
        Ok(0)
    })
}

/// prctl(PR_GET_SECUREBITS).
pub fn secure_bits() -> Result<usize> {
    change(|capabilities| Ok(capabilities.secure_bits.bits() as usize))
}

/// prctl(PR_SET_SECUREBITS). EPERM for what is locked.
pub fn set_secure_bits(bits: u64) -> Result<usize> {
    let new = u32::try_from(bits).ok().and_then(SecureBits::from_bits);
    change(|capabilities| {
        let (old, new) = (capabilities.secure_bits, new.ok_or(Errno::EPERM)?);
        let locked = SecureBits::from_bits_truncate((old & SecureBits::LOCKS).bits() >> 1);
        let allowed = !(old ^ new).intersects(locked)
            && new.contains(old & SecureBits::LOCKS)
            && capabilities.has(Capability::Setpcap);
        if !allowed {
            return Err(Errno::EPERM);
        }
        capabilities.secure_bits = new;
        Ok(0)
    })
}

/// prctl(PR_SET_KEEPCAPS).
pub fn keep(on: u64) -> Result<usize> {
    if on > 1 {
        return Err(Errno::EINVAL);
    }
    change(|capabilities| {
        if capabilities.secure_bits.contains(SecureBits::KEEP_CAPS_LOCKED) {
            return Err(Errno::EPERM);
        }
        capabilities.secure_bits.set(SecureBits::KEEP_CAPS, on != 0);
        Ok(0)
    })
}

/// prctl(PR_CAP_AMBIENT).
pub fn ambient(operation: u64, number: u64, unused: u64) -> Result<usize> {
    const IS_SET: u64 = PR_CAP_AMBIENT_IS_SET as u64;
    const RAISE: u64 = PR_CAP_AMBIENT_RAISE as u64;
    const LOWER: u64 = PR_CAP_AMBIENT_LOWER as u64;
    const CLEAR_ALL: u64 = PR_CAP_AMBIENT_CLEAR_ALL as u64;
    if unused != 0 || operation == CLEAR_ALL && number != 0 {
        return Err(Errno::EINVAL);
    }
    let capability = if operation == CLEAR_ALL { ALL } else { single(number)? };
    change(|capabilities| {
        match operation {
            IS_SET => return Ok((capabilities.ambient & capability != 0).into()),
            RAISE => {
                let may = capabilities.permitted & capabilities.inheritable & capability != 0
                    && !capabilities.secure_bits.contains(SecureBits::NO_AMBIENT_RAISE);
                if !may {
                    return Err(Errno::EPERM);
                }
                capabilities.ambient |= capability;
            }
            LOWER | CLEAR_ALL => capabilities.ambient &= !capability,
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    })
}

/// `struct __user_cap_header_struct`.
#[derive(FromBytes)]
#[repr(C)]
struct Header {
    version: u32,
    pid: Pid,
}

/// `struct __user_cap_data_struct`: half of each set.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The versions of the structures, and how many halves each has.
const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// Reads the header. `Ok(None)`: the version is unknown, and the caller has been told which one is not.
fn header(address: u64) -> Result<Option<(Header, usize)>> {
    let header: Header = user::read(address)?;
    match header.version {
        VERSION_1 => Ok(Some((header, 1))),
        VERSION_2 | VERSION_3 => Ok(Some((header, 2))),
        _ => {
            user::write(address, &VERSION_3)?;
            Ok(None)
        }
    }
}

/// capget(2).
pub fn sys_capget(address: u64, data: u64) -> Result<usize> {
    let Some((header, halves)) = header(address)? else {
        return if data == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    };
    if header.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let of = |process: &Process| process.credentials.lock().capabilities;
    let capabilities = match header.pid {
        0 => of(&current().process),
        pid => of(&*find(meant(pid)).ok_or(Errno::ESRCH)?),
    };
    if data == 0 {
        return Ok(0);
    }
    for half in 0..halves {
        let part = |set: u64| (set >> (32 * half)) as u32;
        let value = Half {
            effective: part(capabilities.effective),
            permitted: part(capabilities.permitted),
            inheritable: part(capabilities.inheritable),
        };
        user::write(data + (half * size_of::<Half>()) as u64, &value)?;
    }
    Ok(0)
}

/// capset(2): for the calling process only. What is permitted can only become less.
pub fn sys_capset(address: u64, data: u64) -> Result<usize> {
    let (header, halves) = header(address)?.ok_or(Errno::EINVAL)?;
    let process = &current().process;
    if header.pid != 0 && meant(header.pid) != process.pid {
        return Err(Errno::EPERM);
    }
    let (mut effective, mut permitted, mut inheritable) = (0, 0, 0);
    for half in 0..halves {
        let value: Half = user::read(data + (half * size_of::<Half>()) as u64)?;
        effective |= u64::from(value.effective) << (32 * half) & ALL;
        permitted |= u64::from(value.permitted) << (32 * half) & ALL;
        inheritable |= u64::from(value.inheritable) << (32 * half) & ALL;
    }
    change(|capabilities| {
        // What exec hands on may grow only within what is bounded, and without CAP_SETPCAP only by what is permitted.
        let old = *capabilities;
        let may_inherit = if old.has(Capability::Setpcap) { old.bounding } else { old.bounding & old.permitted };
        let allowed = permitted & !old.permitted == 0
            && effective & !permitted == 0
            && inheritable & !(old.inheritable | may_inherit) == 0;
        if !allowed {
            return Err(Errno::EPERM);
        }
        *capabilities =
            Capabilities { effective, permitted, inheritable, ambient: old.ambient & permitted & inheritable, ..old };
        Ok(0)
    })
}

#[cfg(test)]
mod tests;
