//! Whose rights a program has: set-user-ID and set-group-ID programs, and what becomes of capabilities at exec.
//!
//! The rules are those of Linux 6.1 (`bprm_fill_uid`, `cap_bprm_creds_from_file`). No file has capabilities of its own.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{RLIMIT_STACK, S_ISGID, S_ISUID, S_IXGRP};

use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::uid_gid::{GROUP, USER};
use crate::task::credentials::{Credentials, user_namespace};
use crate::task::current;
use crate::task::personality::Personality;
use crate::vfs::mount::{Location, MountFlags};

/// The most that such a program inherits as the limit of its stack.
const MAX_STACK: u64 = 8 << 20;

/// What a program gets when it starts.
pub struct NewCredentials {
    new: Credentials,
    /// The file has an owner whose rights it gives.
    is_set_id: bool,
    /// It has rights that whoever started it may not have: AT_SECURE.
    pub is_secure: bool,
}

/// The credentials of the current process, which has a single thread, once it runs the program in `file`.
pub fn of_program(file: &Location) -> NewCredentials {
    let task = current();
    let old = task.process.credentials.lock().clone();
    let mut new = old.clone();
    let no_new_privs = task.no_new_privs.load(Relaxed);

    let metadata = file.metadata();
    let has_mapping = |kind, id| user_namespace::has(&old.namespace, kind, id);
    let gives_ids = metadata.mode & (S_ISUID | S_ISGID) != 0
        && !no_new_privs
        && !file.has(MountFlags::NO_SUID)
        && has_mapping(USER, metadata.uid)
        && has_mapping(GROUP, metadata.gid);
    let gives_user = gives_ids && metadata.mode & S_ISUID != 0;
    let gives_group = gives_ids && metadata.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP;
    if gives_user {
        new.user.effective = metadata.uid;
    }
    if gives_group {
        new.group.effective = metadata.gid;
    }

    let root = user_namespace::meant(&old.namespace, USER, 0).ok();
    let is_root = |id: u32| root == Some(id);
    let mut given = old.capabilities.of_root(is_root(new.user.real), is_root(new.user.effective));
    let changes = new.user.effective != old.user.real || new.group.effective != old.group.real;
    // Whoever could meddle with the program must not get it more rights.
    let is_safe = !no_new_privs && Arc::strong_count(&task.fs) == 1 && task.trace.allows_new_rights();
    if (changes || old.capabilities.gain(given.permitted)) && !is_safe {
        if no_new_privs || !old.capabilities.has(Capability::Setuid) {
            new.user.effective = new.user.real;
            new.group.effective = new.group.real;
        }
        given.permitted = old.capabilities.limit(given.permitted);
    }
    for ids in [&mut new.user, &mut new.group] {
        ids.saved = ids.effective;
        ids.file_system = ids.effective;
    }
    let has_more = new.capabilities.become_program(given, changes);
    NewCredentials {
        is_secure: changes || !is_root(new.user.real) && (given.is_effective || has_more),
        is_set_id: gives_user || gives_group,
        new,
    }
}

impl NewCredentials {
    /// Makes them those of the current process. Who may look at it, and what its parent asked for, depends on them.
    pub fn commit(self) {
        let task = current();
        let process = &task.process;
        let new = self.new;
        let same_ids = new.user.effective == new.user.real && new.group.effective == new.group.real;
        let old = core::mem::replace(&mut *process.credentials.lock(), new.clone());
        let ids = |of: &Credentials| [of.user, of.group].map(|ids| (ids.effective, ids.file_system));
        let has_changed = ids(&old) != ids(&new) || !old.capabilities.permit_all_of(&new.capabilities);
        process.dumpable.store(same_ids && !has_changed, Relaxed);
        if has_changed || self.is_secure {
            task.parent_death_signal.store(0, Relaxed);
        }
        if self.is_secure {
            process.limit_soft(RLIMIT_STACK, MAX_STACK);
        }
        if self.is_set_id {
            process.personality.fetch_and(!Personality::CLEARED_ON_SETID.bits(), Relaxed);
        }
    }
}
