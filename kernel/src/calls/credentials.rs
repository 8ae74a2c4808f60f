//! Who is who: process, group, session, user and group ids.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::uid_gid::{GROUP, Ids, Kind, USER};
use crate::task::credentials::user_namespace;
use crate::task::pid::Pid;
use crate::task::pid::numbers::{meant, seen};
use crate::task::process::Process;
use crate::task::signals::quota::User;
use crate::task::tree::tree;
use crate::task::{current, tree};

/// getpid(2).
#[inline]
pub fn sys_getpid() -> Result<usize> {
    Ok(seen(current().process.pid) as usize)
}

/// gettid(2).
#[inline]
pub fn sys_gettid() -> Result<usize> {
    Ok(seen(current().tid()) as usize)
}

/// getppid(2).
#[inline]
pub fn sys_getppid() -> Result<usize> {
    Ok(seen(current().process.ppid()) as usize)
}

fn process_or_self(pid: u64) -> Result<Arc<Process>> {
    match pid as Pid {
        0 => Ok(current().process.clone()),
        pid => tree::find(meant(pid)).ok_or(Errno::ESRCH),
    }
}

/// getpgid(2).
pub fn sys_getpgid(pid: u64) -> Result<usize> {
    Ok(seen(process_or_self(pid)?.pgrp()) as usize)
}

/// getsid(2).
pub fn sys_getsid(pid: u64) -> Result<usize> {
    Ok(seen(process_or_self(pid)?.session()) as usize)
}

/// setpgid(2).
pub fn sys_setpgid(pid: u64, pgrp: u64) -> Result<usize> {
    let own = &current().process;
    if (pgrp as Pid) < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = if pid as Pid == 0 { own.pid } else { meant(pid as Pid) };
    let pgrp = if pgrp as Pid == 0 { pid } else { meant(pgrp as Pid) };
    let mut tree = tree();
    let node = tree.node(pid).ok_or(Errno::ESRCH)?;
    let process = node.process.clone();
    if node.parent == own.pid {
        if process.session() != own.session() {
            return Err(Errno::EPERM);
        }
        if process.has_execed.load(Relaxed) {
            return Err(Errno::EACCES);
        }
    } else if pid != own.pid {
        return Err(Errno::ESRCH);
    }
    if process.is_session_leader() {
        return Err(Errno::EPERM);
    }
    // A group may be joined if it is in the session, or founded.
    let in_session = |n: &tree::Node| n.process.pgrp() == pgrp && n.process.session() == own.session();
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
    Ok(seen(process.pid) as usize)
}

/// Changes the current process's ids; its capabilities follow. EPERM, with nothing changed, if it is not entitled to one.
/// Whoever changes what counts for files is no longer who the parent knew, or who may look at the process.
fn change(kind: Kind, f: impl FnOnce(&mut Ids, bool) -> Result<()>) -> Result<()> {
    let task = current();
    let mut credentials = task.process.credentials.lock();
    let entitled = credentials.capabilities.has(match kind {
        USER => Capability::Setuid,
        GROUP => Capability::Setgid,
    });
    let old = *credentials.ids(kind);
    let mut new = old;
    f(&mut new, entitled)?;
    *credentials.ids(kind) = new;
    if kind == USER {
        let root = user_namespace::meant(&credentials.namespace, USER, 0).ok();
        credentials.capabilities.follow(old, new, root);
    }
    let moves = kind == USER && old.real != new.real;
    drop(credentials);
    if moves {
        let user = User::find(new.real);
        let _old = core::mem::replace(&mut task.process.signals.lock().user, user);
    }
    if (old.effective, old.file_system) != (new.effective, new.file_system) {
        task.parent_death_signal.store(0, Relaxed);
        task.process.dumpable.store(false, Relaxed);
    }
    Ok(())
}

/// Refuses an id that is not one of those that an unprivileged process may take.
fn check_id(id: u32, entitled: bool, allowed: &[u32]) -> Result<()> {
    if id == KEEP || entitled || allowed.contains(&id) { Ok(()) } else { Err(Errno::EPERM) }
}

/// One of the current process's ids, as it sees it.
fn get(kind: Kind, which: fn(&Ids) -> u32) -> u32 {
    let mut credentials = current().process.credentials.lock();
    let id = which(credentials.ids(kind));
    user_namespace::seen(&credentials.namespace, kind, id)
}

/// The id that an argument means; [`KEEP`] stays what it is.
fn meant_id(kind: Kind, number: u64) -> Result<u32> {
    match number as u32 {
        KEEP => Ok(KEEP),
        number => user_namespace::meant(&current().process.credentials.lock().namespace, kind, number),
    }
}

/// getuid(2), getgid(2).
pub fn sys_get_real(kind: Kind) -> Result<usize> {
    Ok(get(kind, |ids| ids.real) as usize)
}

/// geteuid(2), getegid(2).
pub fn sys_get_effective(kind: Kind) -> Result<usize> {
    Ok(get(kind, |ids| ids.effective) as usize)
}

/// "Leave it as it is."
const KEEP: u32 = u32::MAX;

/// setuid(2), setgid(2): all of them for whoever is entitled to any id, else the effective one alone.
pub fn sys_set(kind: Kind, id: u64) -> Result<usize> {
    if id as u32 == KEEP {
        return Err(Errno::EINVAL);
    }
    let id = meant_id(kind, id)?;
    change(kind, |ids, entitled| {
        check_id(id, entitled, &[ids.real, ids.saved])?;
        if entitled {
            ids.real = id;
            ids.saved = id;
        }
        ids.effective = id;
        ids.file_system = id;
        Ok(())
    })?;
    Ok(0)
}

/// setreuid(2), setregid(2).
pub fn sys_set_re(kind: Kind, real: u64, effective: u64) -> Result<usize> {
    let (real, effective) = (meant_id(kind, real)?, meant_id(kind, effective)?);
    change(kind, |ids, entitled| {
        check_id(real, entitled, &[ids.real, ids.effective])?;
        check_id(effective, entitled, &[ids.real, ids.effective, ids.saved])?;
        let old_real = ids.real;
        if real != KEEP {
            ids.real = real;
        }
        if effective != KEEP {
            ids.effective = effective;
        }
        if real != KEEP || effective != KEEP && effective != old_real {
            ids.saved = ids.effective;
        }
        ids.file_system = ids.effective;
        Ok(())
    })?;
    Ok(0)
}

/// setresuid(2), setresgid(2).
pub fn sys_set_res(kind: Kind, real: u64, effective: u64, saved: u64) -> Result<usize> {
    let [real, effective, saved] = [meant_id(kind, real)?, meant_id(kind, effective)?, meant_id(kind, saved)?];
    change(kind, |ids, entitled| {
        let allowed = [ids.real, ids.effective, ids.saved];
        for (id, to) in [(real, &mut ids.real), (effective, &mut ids.effective), (saved, &mut ids.saved)] {
            check_id(id, entitled, &allowed)?;
            if id != KEEP {
                *to = id;
            }
        }
        ids.file_system = ids.effective;
        Ok(())
    })?;
    Ok(0)
}

/// The ids of the current process, as it sees them.
pub fn real_effective_saved(kind: Kind) -> [u32; 3] {
    [get(kind, |ids| ids.real), get(kind, |ids| ids.effective), get(kind, |ids| ids.saved)]
}

/// getresuid(2), getresgid(2).
pub fn sys_get_res(kind: Kind, real: u64, effective: u64, saved: u64) -> Result<usize> {
    for (address, id) in [real, effective, saved].into_iter().zip(real_effective_saved(kind)) {
        user::write(address, &id)?;
    }
    Ok(0)
}

/// setfsuid(2), setfsgid(2): returns the old one.
pub fn sys_set_file_system(kind: Kind, id: u64) -> Result<usize> {
    let old = get(kind, |ids| ids.file_system);
    // An id that there is not changes nothing, and is no error.
    match meant_id(kind, id) {
        Ok(KEEP) | Err(_) => {}
        // Nor is one that the process is not entitled to.
        Ok(id) => {
            let _ = change(kind, |ids, entitled| {
                let allowed = [ids.real, ids.effective, ids.saved, ids.file_system];
                check_id(id, entitled, &allowed)?;
                ids.file_system = id;
                Ok(())
            });
        }
    }
    Ok(old as usize)
}

/// The most supplementary groups.
const MAX_GROUPS: usize = 65536;

/// The current process's supplementary groups, as it sees them.
pub fn groups() -> Vec<u32> {
    let credentials = current().process.credentials.lock();
    let seen = |&id: &u32| user_namespace::seen(&credentials.namespace, GROUP, id);
    credentials.groups.iter().map(seen).collect()
}

/// getgroups(2).
pub fn sys_getgroups(size: u64, address: u64) -> Result<usize> {
    let groups = groups();
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
    let (namespace, entitled) = {
        let credentials = current().process.credentials.lock();
        let entitled = credentials.capabilities.has(Capability::Setgid);
        (credentials.namespace.clone(), entitled)
    };
    if !entitled || !user_namespace::may_set_groups(&namespace) {
        return Err(Errno::EPERM);
    }
    let size = size as u32 as usize;
    if size > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups = alloc::vec![0u32; size];
    // SAFETY: the vector has that many bytes.
    unsafe { user::copy_from_user(groups.as_mut_ptr().cast(), address, size_of_val(&*groups)) }?;
    for group in &mut groups {
        *group = user_namespace::meant(&namespace, GROUP, *group)?;
    }
    let _old = core::mem::replace(&mut current().process.credentials.lock().groups, groups);
    Ok(0)
}
