//! Capabilities: what a process may do beyond others.
//!
//! They follow the user ids: a process that leaves the ids of root loses them ([`Capabilities::follow`]).

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::ids::Ids;
use super::pid_namespace::meant;
use super::process::{Pid, find};
use super::user_namespace::{self, Namespace};
use super::{Process, current};
use crate::errno::{Errno, Result};
use crate::memory::user;

/// All that Linux 6.1 has.
const ALL: u64 = (1 << 41) - 1;

/// What is asked for, by the numbers of the ABI (`CAP_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Signal any process.
    Kill = 5,
    /// Take any group id.
    Setgid = 6,
    /// Take any user id.
    Setuid = 7,
    /// Use I/O ports.
    SysRawio = 17,
    /// Trace any process.
    SysPtrace = 19,
    /// Administer.
    SysAdmin = 21,
    /// Change anybody's priority and affinity, and raise one's own.
    SysNice = 23,
    /// Exceed and raise resource limits.
    SysResource = 24,
    /// Checkpoint and restore processes.
    CheckpointRestore = 40,
}

/// The sets of a process.
#[derive(Clone, Copy)]
pub struct Capabilities {
    effective: u64,
    permitted: u64,
    inheritable: u64,
    /// PR_SET_KEEPCAPS: leaving the ids of root keeps what is permitted.
    pub keep: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            effective: ALL,
            permitted: ALL,
            inheritable: 0,
            keep: false,
        }
    }
}

impl Capabilities {
    /// Whether the capability is effective.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective & 1 << capability as u32 != 0
    }

    /// The sets with their names, for `/proc/PID/status`. Nothing is bounded, nothing ambient.
    pub fn sets(&self) -> [(&'static str, u64); 5] {
        [
            ("CapInh", self.inheritable),
            ("CapPrm", self.permitted),
            ("CapEff", self.effective),
            ("CapBnd", ALL),
            ("CapAmb", 0),
        ]
    }

    /// Whether all that is permitted to `other` is permitted, too.
    pub fn permit_all_of(&self, other: &Capabilities) -> bool {
        other.permitted & !self.permitted == 0
    }

    /// Whether all that is permitted to `other` is effective.
    pub fn have_all_of(&self, other: &Capabilities) -> bool {
        other.permitted & !self.effective == 0
    }

    /// The user ids have changed; `root` is the id of root where they count.
    pub fn follow(&mut self, old: Ids, new: Ids, root: Option<u32>) {
        let Some(root) = root else { return };
        let is_any = |ids: Ids| [ids.real, ids.effective, ids.saved].contains(&root);
        if is_any(old) && !is_any(new) && !self.keep {
            self.permitted = 0;
            self.effective = 0;
        }
        match (old.effective == root, new.effective == root) {
            (true, false) => self.effective = 0,
            (false, true) => self.effective = self.permitted,
            _ => {}
        }
    }
}

/// Whether the current task has a capability that counts for the whole machine.
pub fn capable(capability: Capability) -> bool {
    capable_in(&None, capability)
}

/// Whether the current task has a capability over what belongs to a user namespace.
pub fn capable_in(namespace: &Namespace, capability: Capability) -> bool {
    user_namespace::grants(&current().process.credentials.lock(), namespace, capability)
}

/// Whether the current task is the administrator: it has CAP_SYS_ADMIN, and not of a namespace alone.
pub fn is_admin() -> bool {
    capable(Capability::SysAdmin)
}

/// Whether the current task is the administrator of its user namespace.
pub fn is_admin_here() -> bool {
    current().process.credentials.lock().is_admin()
}

/// Whether the current task may choose the numbers of processes in PID namespaces that this user namespace owns.
pub fn may_choose_pids(owner: &Namespace) -> bool {
    capable_in(owner, Capability::SysAdmin) || capable_in(owner, Capability::CheckpointRestore)
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
        keep: false,
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
    new.keep = capabilities.keep;
    *capabilities = new;
    Ok(0)
}
