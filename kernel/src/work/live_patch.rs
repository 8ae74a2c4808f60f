//! A live patch: each task goes over from the old code to the new one where it holds none of either on its stack, that
//! is on its way to user mode, or before it has begun.
//!
//! What is patched is uname(2), whose version tells which code the caller runs. A transition is complete when no task
//! is left on the other side. Tasks that sleep for long can be asked to come by.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use portcullis::work::ExitWork;

use crate::errno::{Errno, Result};
use crate::task::tree::tree;
use crate::task::{Task, current};
use crate::work::task_work;

/// Old code, new code.
const UNPATCHED: u32 = 0;
const PATCHED: u32 = 1;

/// Where all tasks are going.
static TARGET: AtomicU32 = AtomicU32::new(UNPATCHED);
/// How often a task went over by itself.
pub static SWITCHED: AtomicU64 = AtomicU64::new(0);

/// Begins a transition to the new code, or back. EBUSY while one is under way.
pub fn begin(new: bool) -> Result<()> {
    let tree = tree();
    let target = if new { PATCHED } else { UNPATCHED };
    let from = TARGET.load(SeqCst);
    if tree.tasks().any(|task| task.hooks.patch.0.load(Relaxed) != from) {
        return Err(Errno::EBUSY);
    }
    TARGET.store(target, SeqCst);
    for task in tree.tasks() {
        if task.is_kernel_thread() {
            // None of them is in uname.
            task.hooks.patch.0.store(target, Relaxed);
        } else if from != target {
            task.raise(ExitWork::PATCH_PENDING);
        }
    }
    Ok(())
}

/// Asks the tasks that have not gone over yet to come by, as a signal would.
pub fn hurry() {
    let target = TARGET.load(SeqCst);
    for task in tree().tasks() {
        if task.hooks.patch.0.load(Relaxed) != target {
            task_work::interrupt(task);
        }
    }
}

/// How many tasks have not gone over.
pub fn remaining() -> usize {
    let target = TARGET.load(SeqCst);
    let behind = |task: &&alloc::sync::Arc<Task>| task.hooks.patch.0.load(Relaxed) != target;
    tree().tasks().filter(behind).count()
}

/// A child goes on where its parent is. The tree is locked, so no transition begins meanwhile.
pub fn inherit(parent: &Task, child: &Task) {
    let code = parent.hooks.patch.0.load(Relaxed);
    child.hooks.patch.0.store(code, Relaxed);
    if code != TARGET.load(SeqCst) {
        child.raise(ExitWork::PATCH_PENDING);
    }
}

/// The hook: goes over.
pub fn update_state() {
    let task = current();
    task.hooks.patch.0.store(TARGET.load(SeqCst), Relaxed);
    SWITCHED.fetch_add(1, Relaxed);
}

/// Whether the current task runs the new code.
pub fn is_patched() -> bool {
    current().hooks.patch.0.load(Relaxed) == PATCHED
}
