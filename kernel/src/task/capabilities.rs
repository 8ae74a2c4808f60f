//! Capabilities: what a process may do beyond others. They are kept for those who ask and give up; only CAP_SYS_ADMIN is
//! asked for anywhere.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::pid_namespace::meant;
use super::process::{Pid, find};
use super::user_namespace::{self, Namespace};
use super::{Process, current};
use crate::errno::{Errno, Result};
use crate::memory::user;

/// All that Linux 6.1 has.
const ALL: u64 = (1 << 41) - 1;
const SYS_ADMIN: u64 = 1 << 21;
const CHECKPOINT_RESTORE: u64 = 1 << 40;

/// The sets of a process.
#[derive(Clone, Copy)]
pub struct Capabilities {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            effective: ALL,
            permitted: ALL,
            inheritable: 0,
        }
    }
}

impl Capabilities {
    /// CAP_SYS_ADMIN.
    pub fn has_admin(&self) -> bool {
        self.effective & SYS_ADMIN != 0
    }
}

/// Whether the current task is the administrator: root, and has not given it up, and not of a namespace alone.
pub fn is_admin() -> bool {
    let credentials = current().process.credentials.lock();
    credentials.namespace.is_none() && credentials.is_admin()
}

/// Whether the current task is the administrator of its user namespace.
pub fn is_admin_here() -> bool {
    current().process.credentials.lock().is_admin()
}

/// Whether the current task may choose the numbers of processes in PID namespaces that this user namespace owns.
pub fn may_choose_pids(owner: &Namespace) -> bool {
    let credentials = current().process.credentials.lock();
    let effective = credentials.capabilities.effective;
    let privileged = credentials.is_root_here() && effective & (SYS_ADMIN | CHECKPOINT_RESTORE) != 0;
    user_namespace::is_within(owner, &credentials.namespace) && privileged
        || user_namespace::is_owner(owner, &credentials)
}

/// Whether the current task has root's rights to the machine.
pub fn is_root() -> bool {
    let credentials = current().process.credentials.lock();
    credentials.namespace.is_none() && credentials.user.effective == 0
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
    let mut new = Capabilities {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    for half in 0..halves {
        let value: Half = user::read(data + (half * size_of::<Half>()) as u64)?;
        new.effective |= u64::from(value.effective) << (32 * half) & ALL;
        new.permitted |= u64::from(value.permitted) << (32 * half) & ALL;
        new.inheritable |= u64::from(value.inheritable) << (32 * half) & ALL;
    }
    let capabilities = &mut process.credentials.lock().capabilities;
    if new.permitted & !capabilities.permitted != 0 || new.effective & !new.permitted != 0 {
        return Err(Errno::EPERM);
    }
    *capabilities = new;
    Ok(0)
}
