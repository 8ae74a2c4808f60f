//! Capabilities: what a process may do beyond others.
//!
//! They follow the user ids: a process that leaves the ids of root loses them ([`Capabilities::follow`]).

use bitflags::bitflags;
use linux_raw_sys::prctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::credentials::Ids;
use crate::task::pid_namespace::meant;
use crate::task::process::{Pid, Process, find};
use crate::task::user_namespace::Namespace;
use crate::task::{current, user_namespace};

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
    /// Change sets of capabilities.
    Setpcap = 8,
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
    /// What exec may give at most.
    bounding: u64,
    /// What exec keeps for who is not root.
    ambient: u64,
    /// What root's ids mean.
    pub secure_bits: SecureBits,
}

bitflags! {
    /// `SECBIT_*`; each bit is followed by the one that locks it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SecureBits: u32 {
        /// exec gives nothing for being root.
        const NO_ROOT = 1 << 0;
        /// See above.
        const NO_ROOT_LOCKED = 1 << 1;
        /// Capabilities do not follow the user ids.
        const NO_SETUID_FIXUP = 1 << 2;
        /// See above.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Leaving the ids of root keeps what is permitted (PR_SET_KEEPCAPS).
        const KEEP_CAPS = 1 << 4;
        /// See above.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// Nothing becomes ambient.
        const NO_AMBIENT_RAISE = 1 << 6;
        /// See above.
        const NO_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

impl SecureBits {
    const LOCKS: SecureBits = SecureBits::NO_ROOT_LOCKED
        .union(SecureBits::NO_SETUID_FIXUP_LOCKED)
        .union(SecureBits::KEEP_CAPS_LOCKED)
        .union(SecureBits::NO_AMBIENT_RAISE_LOCKED);
}

/// What exec gives to a program for being root's.
#[derive(Clone, Copy)]
pub struct Given {
    /// What it may use.
    pub permitted: u64,
    /// Whether all of that is effective at once.
    pub is_effective: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            effective: ALL,
            permitted: ALL,
            inheritable: 0,
            bounding: ALL,
            ambient: 0,
            secure_bits: SecureBits::empty(),
        }
    }
}

impl Capabilities {
    /// Whether the capability is effective.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective & 1 << capability as u32 != 0
    }

    /// The sets with their names, for `/proc/PID/status`.
    pub fn sets(&self) -> [(&'static str, u64); 5] {
        [
            ("CapInh", self.inheritable),
            ("CapPrm", self.permitted),
            ("CapEff", self.effective),
            ("CapBnd", self.bounding),
            ("CapAmb", self.ambient),
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
        if self.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        let is_any = |ids: Ids| [ids.real, ids.effective, ids.saved].contains(&root);
        if is_any(old) && !is_any(new) {
            if !self.secure_bits.contains(SecureBits::KEEP_CAPS) {
                self.permitted = 0;
                self.effective = 0;
            }
            self.ambient = 0;
        }
        match (old.effective == root, new.effective == root) {
            (true, false) => self.effective = 0,
            (false, true) => self.effective = self.permitted,
            _ => {}
        }
    }
}

impl Capabilities {
    /// What a program gets that is started with the ids of root: as the real one, as the effective one.
    pub fn of_root(&self, real: bool, effective: bool) -> Given {
        let counts = !self.secure_bits.contains(SecureBits::NO_ROOT);
        Given {
            permitted: if counts && (real || effective) { self.bounding | self.inheritable } else { 0 },
            is_effective: counts && effective,
        }
    }

    /// Whether `permitted` is more than these have.
    pub fn gain(&self, permitted: u64) -> bool {
        permitted & !self.permitted != 0
    }

    /// What these have of `permitted`.
    pub fn limit(&self, permitted: u64) -> u64 {
        permitted & self.permitted
    }

    /// Makes them a program's that is `given` something. A change of ids cancels what is ambient. Returns whether more is
    /// permitted than that.
    pub fn become_program(&mut self, given: Given, changes_ids: bool) -> bool {
        if changes_ids {
            self.ambient = 0;
        }
        self.permitted = given.permitted | self.ambient;
        self.effective = if given.is_effective { self.permitted } else { self.ambient };
        self.secure_bits.remove(SecureBits::KEEP_CAPS);
        self.permitted & !self.ambient != 0
    }
}

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
