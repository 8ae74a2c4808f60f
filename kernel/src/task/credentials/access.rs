//! Whether a task may see another one's memory and state (Linux: `ptrace_may_access`).

use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::task::credentials::capabilities::{Capabilities, Capability};
use crate::task::credentials::uid_gid::Ids;
use crate::task::credentials::user_namespace;
use crate::task::process::Process;
use crate::task::{Task, current};

/// Whether the current task may trace `task` and see its memory: it is of the same process, or belongs to the same user, has no
/// more rights and hides nothing, or the current task may trace any. EPERM otherwise.
pub fn check(task: &Task) -> Result<()> {
    check_process(&task.process)
}

/// As [`check`], for a process that may have ended.
pub fn check_process(process: &Process) -> Result<()> {
    check_as(process, |ids| ids.real, Capabilities::permit_all_of)
}

/// As [`check`], for files of `/proc`: who may open files counts.
pub fn check_file(process: &Process) -> Result<()> {
    check_as(process, |ids| ids.file_system, Capabilities::have_all_of)
}

fn check_as(target: &Process, id: fn(&Ids) -> u32, covers: fn(&Capabilities, &Capabilities) -> bool) -> Result<()> {
    let process = &current().process;
    if core::ptr::eq(&**process, target) {
        return Ok(());
    }
    let theirs = target.credentials.lock().clone();
    let mine = process.credentials.lock().clone();
    if mine.grants(&theirs.namespace, Capability::SysPtrace) {
        return Ok(());
    }
    let is_mine = |theirs: &Ids, mine: u32| [theirs.real, theirs.effective, theirs.saved] == [mine; 3];
    let same = is_mine(&theirs.user, id(&mine.user)) && is_mine(&theirs.group, id(&mine.group));
    if same
        && user_namespace::is_same(&mine.namespace, &theirs.namespace)
        && covers(&mine.capabilities, &theirs.capabilities)
        && target.dumpable.load(Relaxed)
    {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
