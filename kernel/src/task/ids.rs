//! Who is who: process, group, session, user and group ids.

use alloc::vec::Vec;

use super::current;
use super::process::{self, Pid, tree};
use crate::errno::{Errno, Result};
use crate::memory::user;

/// One kind of id in its four roles.
#[derive(Clone, Copy, Default)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// What it may go back to.
    pub saved: u32,
    /// Whose rights count for files.
    pub file_system: u32,
}

/// The ids of a process. They are kept and inherited; nothing is refused because of them.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User ids.
    pub user: Ids,
    /// Group ids.
    pub group: Ids,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// What it may do beyond others.
    pub capabilities: super::capabilities::Capabilities,
}

/// getpid(2).
#[inline]
pub fn sys_getpid() -> Result<usize> {
    Ok(current().process.pid as usize)
}

/// gettid(2).
#[inline]
pub fn sys_gettid() -> Result<usize> {
    Ok(current().tid() as usize)
}

/// getppid(2).
#[inline]
pub fn sys_getppid() -> Result<usize> {
    Ok(current().process.ppid() as usize)
}

/// getpgid(2).
pub fn sys_getpgid(pid: u64) -> Result<usize> {
    match pid as Pid {
        0 => Ok(current().process.pgrp() as usize),
        pid => Ok(process::find(pid).ok_or(Errno::ESRCH)?.pgrp() as usize),
    }
}

/// getsid(2).
pub fn sys_getsid(pid: u64) -> Result<usize> {
    match pid as Pid {
        0 => Ok(current().process.session() as usize),
        pid => Ok(process::find(pid).ok_or(Errno::ESRCH)?.session() as usize),
    }
}

/// setpgid(2).
pub fn sys_setpgid(pid: u64, pgrp: u64) -> Result<usize> {
    let own = &current().process;
    let pid = if pid as Pid == 0 { own.pid } else { pid as Pid };
    let pgrp = if pgrp as Pid == 0 { pid } else { pgrp as Pid };
    if pgrp < 0 {
        return Err(Errno::EINVAL);
    }
    let mut tree = tree();
    let node = tree.node(pid).ok_or(Errno::ESRCH)?;
    let process = node.process.clone();
    if node.parent == own.pid {
        if process.session() != own.session() {
            return Err(Errno::EPERM);
        }
        if process.has_execed.load(core::sync::atomic::Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    } else if pid != own.pid {
        return Err(Errno::ESRCH);
    }
    if process.is_session_leader() {
        return Err(Errno::EPERM);
    }
    // A group may be joined if it is in the session, or founded.
    let in_session = |n: &process::Node| n.process.pgrp() == pgrp && n.process.session() == own.session();
    if pgrp != pid && !tree.nodes().any(in_session) {
        return Err(Errno::EPERM);
    }
    tree.set_pgrp(&process, pgrp);
    Ok(0)
}

/// setsid(2).
pub fn sys_setsid() -> Result<usize> {
    let process = &current().process;
    let mut tree = tree();
    if tree.nodes().any(|node| node.process.pgrp() == process.pid) {
        return Err(Errno::EPERM);
    }
    tree.set_session(process);
    Ok(process.pid as usize)
}

/// Which of the two kinds of id a call is about.
type Kind = fn(&mut Credentials) -> &mut Ids;
/// The user ids.
pub const USER: Kind = |credentials| &mut credentials.user;
/// The group ids.
pub const GROUP: Kind = |credentials| &mut credentials.group;

fn with<T>(kind: Kind, f: impl FnOnce(&mut Ids) -> T) -> T {
    f(kind(&mut current().process.credentials.lock()))
}

/// getuid(2), getgid(2).
pub fn sys_get_real(kind: Kind) -> Result<usize> {
    Ok(with(kind, |ids| ids.real) as usize)
}

/// geteuid(2), getegid(2).
pub fn sys_get_effective(kind: Kind) -> Result<usize> {
    Ok(with(kind, |ids| ids.effective) as usize)
}

/// "Leave it as it is."
const KEEP: u32 = u32::MAX;

/// setuid(2), setgid(2), as root: all of them.
pub fn sys_set(kind: Kind, id: u64) -> Result<usize> {
    if id as u32 == KEEP {
        return Err(Errno::EINVAL);
    }
    sys_set_res(kind, id, id, id)
}

/// setreuid(2), setregid(2).
pub fn sys_set_re(kind: Kind, real: u64, effective: u64) -> Result<usize> {
    let (real, effective) = (real as u32, effective as u32);
    with(kind, |ids| {
        let old_real = ids.real;
        if real != KEEP {
            ids.real = real;
        }
        if effective != KEEP {
            ids.effective = effective;
            ids.file_system = effective;
        }
        if real != KEEP || effective != KEEP && effective != old_real {
            ids.saved = ids.effective;
        }
    });
    Ok(0)
}

/// setresuid(2), setresgid(2).
pub fn sys_set_res(kind: Kind, real: u64, effective: u64, saved: u64) -> Result<usize> {
    with(kind, |ids| {
        for (id, to) in [
            (real, &mut ids.real),
            (effective, &mut ids.effective),
            (saved, &mut ids.saved),
        ] {
            if id as u32 != KEEP {
                *to = id as u32;
            }
        }
        ids.file_system = ids.effective;
    });
    Ok(0)
}

/// getresuid(2), getresgid(2).
pub fn sys_get_res(kind: Kind, real: u64, effective: u64, saved: u64) -> Result<usize> {
    let ids = with(kind, |ids| *ids);
    user::write(real, &ids.real)?;
    user::write(effective, &ids.effective)?;
    user::write(saved, &ids.saved)?;
    Ok(0)
}

/// setfsuid(2), setfsgid(2): returns the old one.
pub fn sys_set_file_system(kind: Kind, id: u64) -> Result<usize> {
    let old = with(kind, |ids| {
        let old = ids.file_system;
        if id as u32 != KEEP {
            ids.file_system = id as u32;
        }
        old
    });
    Ok(old as usize)
}

/// The most supplementary groups.
const MAX_GROUPS: usize = 65536;

/// getgroups(2).
pub fn sys_getgroups(size: u64, address: u64) -> Result<usize> {
    let groups = current().process.credentials.lock().groups.clone();
    let size = size as i32;
    if size < 0 || size != 0 && (size as usize) < groups.len() {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        // SAFETY: that many bytes are there.
        unsafe { user::copy_to_user(address, groups.as_ptr().cast(), size_of_val(&*groups)) }?;
    }
    Ok(groups.len())
}

/// setgroups(2).
pub fn sys_setgroups(size: u64, address: u64) -> Result<usize> {
    let size = size as u32 as usize;
    if size > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups = alloc::vec![0u32; size];
    // SAFETY: the vector has that many bytes.
    unsafe { user::copy_from_user(groups.as_mut_ptr().cast(), address, size_of_val(&*groups)) }?;
    let _old = core::mem::replace(&mut current().process.credentials.lock().groups, groups);
    Ok(0)
}
