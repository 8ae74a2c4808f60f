//! How tasks and processes end.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGHUP};

use super::process::{self, Pid, Process, tree};
use super::{Task, current, fork, futex, kernel_mm, replace_mm, robust, scheduler};
use crate::errno::Result;
use crate::signal::action::SIG_IGN;
use crate::signal::{self, ActionFlags, SigHand, SigInfo};

/// exit(2): ends the calling thread.
pub fn sys_exit(code: u64) -> Result<usize> {
    do_exit((code as i32 & 0xff) << 8)
}

/// exit_group(2): ends the process.
pub fn sys_exit_group(code: u64) -> Result<usize> {
    do_group_exit((code as i32 & 0xff) << 8)
}

/// Ends the whole process with a wait status (`code << 8`, or a signal number with 0x80 for "core dumped"). If the process
/// is ending already, the earlier status counts; if another thread is in exec, only this thread ends.
pub fn do_group_exit(status: i32) -> ! {
    let task = current();
    let process = &task.process;
    let exec_thread = process.exec_thread.load(SeqCst);
    if exec_thread != 0 && exec_thread != task.tid() {
        do_exit(status);
    }
    let (status, first) = process.begin_group_exit(status);
    if first {
        kill_other_threads();
    }
    do_exit(status)
}

/// Makes all other threads of the current process end as soon as they can.
pub(super) fn kill_other_threads() {
    let task = current();
    for thread in task.process.threads() {
        if !core::ptr::eq(&*thread, task) {
            signal::send::kill_thread(&thread);
        }
    }
}

/// Ends the current task.
pub fn do_exit(status: i32) -> ! {
    signal::exit_thread();
    release_user_state();
    let task = current();
    let process = task.process.clone();
    let (refs, last) = {
        let mut tree = tree();
        process.usage.add(&task.usage);
        tree.remove_thread(task)
    };
    process.threads_changed.wake_all();
    if last {
        end_process(&process, process.group_exit().unwrap_or(status));
    }
    drop(process);
    // The scheduler's reference keeps the task, and the stack this runs on, until another stack is switched to.
    drop(refs);
    scheduler::set_state(scheduler::DEAD);
    scheduler::schedule();
    unreachable!("a dead task runs")
}

/// Lets go of everything the task has in user mode: others may wait for it.
fn release_user_state() {
    let task = current();
    task.process.exec_thread.compare_exchange(task.tid(), 0, SeqCst, SeqCst).ok();
    robust::release(task);
    release_memory();
    drop(task.files.replace(None));
    drop(task.fs.replace(None));
}

/// Leaves the address space: tells whoever waits for that (set_tid_address, vfork), then goes to the kernel's own.
fn release_memory() {
    let task = current();
    let address = task.clear_child_tid.swap(0, Relaxed);
    if address != 0 && crate::memory::user::write(address, &0u32).is_ok() {
        futex::wake(address, 1);
    }
    let old = replace_mm(kernel_mm());
    fork::release_vfork_parent();
    drop(old);
}

/// The last thread has ended.
fn end_process(process: &Arc<Process>, status: i32) {
    process.timers.stop_all();
    if process.is_session_leader() {
        signal::session_leader_exits(process);
    }
    let pid = process.pid;
    let parent = process.parent().expect("every process but PID 1 has a parent, and PID 1 does not end");
    let children_group_changes = children_groups(process);
    let (heir, ended_children, exit_signal) = {
        let mut tree = tree();
        let (heir, ended) = tree.reparent_children(pid);
        (heir, ended, tree.node(pid).map_or(0, |node| node.exit_signal))
    };
    for pgrp in children_group_changes {
        hang_up_if_orphaned(pgrp, None);
    }
    // Its own group may lose the one parent that looked after it.
    if process.session() == parent.session() && process.pgrp() != parent.pgrp() {
        hang_up_if_orphaned(process.pgrp(), Some(pid));
    }
    let ignored = exit_signal == SIGCHLD as i32
        && parent.sighand().is_some_and(|sighand| discards_children(&sighand));
    tree().node_mut(pid).expect("the process that ends").zombie = Some(status);
    if ignored {
        super::reap::reap(pid);
    } else if exit_signal != 0 {
        // A standard signal is never refused, and others only get less information.
        let _ = signal::send::to_process(&parent, SigInfo::child(exit_signal, process, status));
    }
    parent.children_changed.wake_all();
    if !ended_children.is_empty()
        && let Some(heir) = process::find(heir)
    {
        heir.children_changed.wake_all();
    }
}

/// Whether children of a process with these actions leave no zombies.
fn discards_children(sighand: &SigHand) -> bool {
    let action = sighand.get(SIGCHLD as i32);
    action.handler == SIG_IGN || action.flags().contains(ActionFlags::NOCLDWAIT)
}

/// The groups of the children that looked to this process for job control.
fn children_groups(process: &Process) -> Vec<Pid> {
    let tree = tree();
    let Some(node) = tree.node(process.pid) else { return Vec::new() };
    let mut groups: Vec<Pid> = node
        .children
        .iter()
        .filter_map(|&child| tree.node(child))
        .map(|child| &child.process)
        .filter(|child| child.session() == process.session() && child.pgrp() != process.pgrp())
        .map(|child| child.pgrp())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// A group that has just been orphaned and has stopped members gets SIGHUP and SIGCONT (POSIX, `_exit`).
fn hang_up_if_orphaned(pgrp: Pid, ending: Option<Pid>) {
    if !tree().is_orphaned(pgrp, ending) {
        return;
    }
    let stopped = process::group(pgrp).iter().any(|process| process.signals.lock().is_stopped());
    if stopped {
        for signo in [SIGHUP, SIGCONT] {
            signal::send::to_pgrp(pgrp, SigInfo::kernel(signo as i32)).ok();
        }
    }
}

/// Whether a task is on its way out and must not begin anything new.
pub fn is_exiting(task: &Task) -> bool {
    task.files.is_none()
}
