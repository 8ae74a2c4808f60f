//! Which numbers a new task gets.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::task::Task;
use crate::task::credentials::capable::may_choose_pids;
use crate::task::pid::namespace::{INIT, Namespace, PidNamespace, chain, left};
use crate::task::pid::{PID_MAX, Pid};
use crate::task::process::Process;
use crate::task::tree::{Tree, tree};

/// Checks the numbers that are chosen for a task of a namespace, its own first: EINVAL for too many, for numbers that there
/// are not, and for others than the init's before there is one; EPERM without the rights there; EEXIST. Gives the last if
/// it is the first namespace's, and so the id.
pub fn check_chosen(tree: &Tree, namespace: &Namespace, chosen: &[Pid]) -> Result<Option<Pid>> {
    let mut around = chain(namespace);
    if chosen.len() > chain(namespace).count() + 1 {
        return Err(Errno::EINVAL);
    }
    for &number in chosen {
        let namespace = around.next();
        if !(1..PID_MAX).contains(&number)
            || number != INIT && namespace.is_some_and(|namespace| namespace.id(INIT).is_none())
        {
            return Err(Errno::EINVAL);
        }
        if !may_choose_pids(&namespace.and_then(|namespace| namespace.owner().clone())) {
            return Err(Errno::EPERM);
        }
        let taken = match namespace {
            Some(namespace) => namespace.id(number).is_some_and(|id| tree.is_taken(id)),
            None => tree.is_taken(number),
        };
        if taken {
            return Err(Errno::EEXIST);
        }
        if namespace.is_none() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Gives a task that is about to enter the tree its numbers: those chosen, the innermost namespace's first, then any. The
/// tree is locked.
pub fn enter(tree: &Tree, task: &Task, chosen: &[Pid]) -> Result<()> {
    let process = &task.process;
    let id = task.tid();
    for (level, namespace) in chain(&process.pid_namespace).enumerate() {
        if let Err(error) = namespace.add(id, chosen.get(level).copied(), |id| tree.is_taken(id)) {
            left(&process.pid_namespace, id, tree.is_taken(id));
            return Err(error);
        }
    }
    if let Some(namespace) = &process.pid_namespace
        && namespace.init() == Some(process.pid)
    {
        process.unkillable.store(true, Relaxed);
    }
    Ok(())
}

/// A process's last thread has ended: if it is its namespace's init, nobody enters the namespace any more. Its children
/// are given away after this, and their end follows.
pub fn close(process: &Process) -> Option<&Arc<PidNamespace>> {
    let namespace = process.pid_namespace.as_ref()?;
    if namespace.init() != Some(process.pid) {
        return None;
    }
    namespace.close();
    Some(namespace)
}

/// The id of a task that is being made: nobody else gets it. Given back unless the task enters the tree.
pub struct ReservedPid(Pid);

impl ReservedPid {
    /// Any id, or the last of the numbers that were chosen for the namespace and all around it. See
    /// [`check_chosen`] for the errors.
    pub fn new(namespace: &Namespace, chosen: &[Pid]) -> Result<ReservedPid> {
        let mut tree = tree();
        let chosen = check_chosen(&tree, namespace, chosen)?;
        let pid = match chosen {
            None => tree.allocate_pid()?,
            Some(pid) => pid,
        };
        tree.reserve(pid, chosen.is_some());
        Ok(ReservedPid(pid))
    }

    /// The id.
    pub fn pid(&self) -> Pid {
        self.0
    }

    /// Its task enters the tree, which is locked.
    pub fn taken(self, tree: &mut Tree) {
        tree.release(self.0);
        core::mem::forget(self);
    }
}

impl Drop for ReservedPid {
    fn drop(&mut self) {
        tree().release(self.0);
    }
}

#[cfg(test)]
mod tests;
