//! How tasks and processes end.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGHUP};

use super::process::{self, Pid, Process, tree};
use super::{current, fork, futex, kernel_mm, replace_mm, robust, scheduler};
use crate::errno::Result;
use crate::memory::address_space::AddressSpace;
use crate::memory::user;
use crate::signal::action::SIG_IGN;
use crate::signal::info::SI_USER;
use crate::signal::{self, ActionFlags, SigInfo};

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
    // A preemption in between would queue a task that the next switch frees.
    x86_64::instructions::interrupts::disable();
    scheduler::set_state(scheduler::DEAD);
    scheduler::schedule();
    unreachable!("a dead task runs")
}

/// Lets go of everything the task has in user mode: others may wait for it.
fn release_user_state() {
    let task = current();
    leave_memory(kernel_mm());
    drop(task.files.replace(None));
    drop(task.fs.replace(None));
}

/// Goes over to another address space, for exit and exec. Whoever waits for that is told: holders of robust futexes,
/// joiners (set_tid_address), a vfork parent.
pub(super) fn leave_memory(to: Arc<AddressSpace>) {
    let task = current();
    robust::release(task);
    let address = task.clear_child_tid.swap(0, Relaxed);
    // Without another user of the memory there is nobody to tell.
    if address != 0 && Arc::strong_count(&task.mm) > 1 && user::write(address, &0u32).is_ok() {
        futex::wake(address, 1);
    }
    let old = replace_mm(to);
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
    let groups = groups_of_children(process);
    let orphans = tree().reparent_children(pid);
    for pgrp in groups {
        hang_up_if_orphaned(pgrp, None);
    }
    for (orphan, signo) in orphans.to_signal {
        let _ = signal::send::to_task(&orphan, SigInfo::user(signo, SI_USER, pid, 0));
    }
    if let Some(heir) = orphans.new_parent {
        heir.children_changed.wake_all();
    }
    let (parent, reaped) = {
        let mut tree = tree();
        // Asked for only now, and with the end made public under the same lock: until here the parent may have ended, too.
        let node = tree
            .node_mut(pid)
            .expect("a process is in the tree until it is reaped");
        node.zombie = Some(status);
        let (parent, exit_signal) = (node.parent, node.exit_signal);
        let parent = tree
            .node(parent)
            .expect("every process but PID 1 has a parent, and PID 1 does not end");
        let sighand = parent.threads.first().and_then(|thread| thread.sighand.share());
        let action = sighand
            .filter(|_| exit_signal == SIGCHLD as i32)
            .map(|hand| hand.get(exit_signal));
        let ignored = action.is_some_and(|action| action.handler == SIG_IGN);
        let discards =
            ignored || action.is_some_and(|action| action.flags().contains(ActionFlags::NOCLDWAIT));
        let parent = parent.process.clone();
        if exit_signal != 0 && !ignored {
            // Before the lock is given back: a parent that has waited finds the signal pending.
            // A standard signal is never refused, and others only get less information.
            let _ = signal::send::to_process_in(&tree, &parent, SigInfo::child(exit_signal, process, status));
        }
        (parent, if discards { tree.remove(pid) } else { None })
    };
    // Its own group may have lost the one parent that looked after it.
    if process.session() == parent.session() && process.pgrp() != parent.pgrp() {
        hang_up_if_orphaned(process.pgrp(), Some(pid));
    }
    if let Some(node) = reaped {
        super::reap::account(&parent, &node.process);
    }
    parent.children_changed.wake_all();
}

/// The groups of the children that looked to this process for job control.
fn groups_of_children(process: &Process) -> Vec<Pid> {
    let tree = tree();
    let Some(node) = tree.node(process.pid) else {
        return Vec::new();
    };
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
    let stopped = process::group(pgrp)
        .iter()
        .any(|process| process.signals.lock().is_stopped());
    if stopped {
        for signo in [SIGHUP, SIGCONT] {
            signal::send::to_pgrp(pgrp, SigInfo::kernel(signo as i32)).ok();
        }
    }
}
