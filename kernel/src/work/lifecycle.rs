//! What becomes of what the hooks keep for a task ([`hooks`](crate::task::hooks)) at clone, exec, exit and at a switch.

use core::sync::atomic::Ordering::Relaxed;

use portcullis::work::SyscallWork;

use crate::task::tree::Tree;
use crate::task::{Task, current};
use crate::work::hooks::{SWITCH_RSEQ, SWITCH_USER_RETURN};
use crate::work::{audit, live_patch, return_notifier, rseq, seccomp, task_work, user_dispatch};

/// A child is about to be published; its memory is its own unless `shares_memory`. The tree is locked.
pub fn inherit(tree: &mut Tree, parent: &Task, child: &Task, shares_memory: bool) {
    if !shares_memory {
        rseq::inherit(parent, child);
    }
    seccomp::inherit(tree, parent, child);
    live_patch::inherit(parent, child);
    let reported = parent.work.armed() & (SyscallWork::AUDIT | SyscallWork::TRACEPOINT);
    child.work.arm(reported);
}

/// The current task is about to leave its address space, at its end or to run another program.
pub fn leave_memory() {
    let task = current();
    if task.on_switch_out.load(Relaxed) & SWITCH_RSEQ != 0 {
        rseq::forget(task);
    }
}

/// The current task's old program is gone.
pub fn reset_for_exec() {
    let task = current();
    user_dispatch::reset_for_exec(task);
}

/// The current task ends. May sleep.
pub fn release() {
    task_work::run();
    seccomp::release();
    audit::end();
}

/// `prev` gives its CPU to `next`, and something of it is armed. Interrupts are off.
#[cold]
pub fn switch(prev: &Task, next: &Task) {
    let due = prev.on_switch_out.load(Relaxed);
    if due & SWITCH_RSEQ != 0 {
        rseq::switched_out(prev);
    }
    if due & SWITCH_USER_RETURN != 0 {
        return_notifier::pass_on(prev, next);
    }
}
