//! Telling of the end of a process: its tracer, its parent, its group.

use alloc::sync::Arc;

use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGHUP};

use crate::signal::child_info;
use crate::signal::send;
use crate::task::exit_signal::ExitSignal;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::signals::action::SIG_IGN;
use crate::task::signals::info::SigInfo;
use crate::task::tree;
use crate::task::tree::{Node, Tree, tree};

/// Tells who waits for a process that it has ended, where that had to wait for a tracer.
pub fn announce_end(process: &Arc<Process>) {
    let told = tell_of_end(&mut tree(), process);
    if let Some(told) = told {
        after_telling(process, told);
    }
}

/// Who was told, and the process if the parent does not want to wait for it.
pub type Told = (Arc<Process>, Option<Node>);

/// A process has ended: tells its tracer, or its parent. None while a tracer has yet to wait for some of its threads.
pub fn tell_of_end(tree: &mut Tree, process: &Arc<Process>) -> Option<Told> {
    let node = tree.node(process.pid)?;
    let status = node.zombie?;
    if node.lingering != 0 {
        return None;
    }
    process.ended.wake_all();
    let (parent, exit_signal) = (tree.node(node.parent)?, node.exit_signal);
    if let Some(tracer) = node.leader_tracer() {
        // It waits first; the parent is told when the tracer has.
        let own = tracer.process.pid == node.parent;
        let told_by = if own { exit_signal } else { ExitSignal::CHILD };
        if let Some(signo) = told_by.signal() {
            // A standard signal is never refused, and others only get less information.
            let _ = send::to_process_in(tree, &tracer.process, child_info::child(signo, process, status));
        }
        return Some((tracer.process.clone(), None));
    }
    let is_child = exit_signal == ExitSignal::CHILD;
    let hand = parent.threads.first().and_then(|thread| thread.sighand.share());
    let ignored = is_child && hand.is_some_and(|hand| hand.get(SIGCHLD as i32).handler == SIG_IGN);
    let discards = is_child && parent.ignores_children();
    let parent = parent.process.clone();
    if let Some(signo) = exit_signal.signal().filter(|_| !ignored) {
        // Before the lock is given back: a parent that has waited finds the signal pending.
        let _ = send::to_process_in(tree, &parent, child_info::child(signo, process, status));
    }
    Some((parent, if discards { tree.remove(process.pid) } else { None }))
}

/// With the tree unlocked: tells the rest, and lets go of what was reaped.
pub fn after_telling(process: &Process, (parent, reaped): Told) {
    // Its own group may have lost the one parent that looked after it.
    if process.session() == parent.session() && process.pgrp() != parent.pgrp() {
        hang_up_if_orphaned(process.pgrp(), Some(process.pid));
    }
    // What a child has used that nobody waits for is not counted among the children's (POSIX).
    drop(reaped);
    parent.children_changed.wake_all();
}

/// A group that has just been orphaned and has stopped members gets SIGHUP and SIGCONT (POSIX, `_exit`).
pub fn hang_up_if_orphaned(pgrp: Pid, ending: Option<Pid>) {
    if !tree().is_orphaned(pgrp, ending) {
        return;
    }
    let stopped = tree::group(pgrp).iter().any(|process| process.signals.lock().is_stopped());
    if stopped {
        for signo in [SIGHUP, SIGCONT] {
            send::to_pgrp(pgrp, SigInfo::kernel(signo as i32)).ok();
        }
    }
}
