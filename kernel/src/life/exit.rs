//! How tasks and processes end.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use portcullis::InKernel;

use crate::life::{fork, robust};
use crate::machine::gate::Gate;
use crate::memory::address_space::{AddressSpace, kernel_mm};
use crate::memory::user;
use crate::sched::thread::replace_mm;
use crate::sched::{scheduler, state};
use crate::signal::{SigInfo, end};
use crate::task::pid::namespace::PidNamespace;
use crate::task::pid::{Pid, choice, numbers};
use crate::task::process::{Leader, Process};
use crate::task::signals::info::SI_USER;
use crate::task::signals::set::SIGKILL;
use crate::task::tree::{DeathSignal, tree};
use crate::task::wait_status::WaitStatus;
use crate::task::{current, current_arc};
use crate::{ptrace, signal};

/// Ends the whole process. If the process is ending already, the earlier status counts; if another thread is in exec, only
/// this thread ends.
pub fn do_group_exit(at: &mut InKernel<'_, Gate>, status: WaitStatus) -> ! {
    let task = current();
    let process = &task.process;
    let exec_thread = process.exec_thread.load(SeqCst);
    if exec_thread != 0 && exec_thread != task.tid() && process.group_exit().is_none() {
        // It makes way, and has not failed.
        do_exit(at, WaitStatus::exited(0));
    }
    let (status, first) = process.begin_group_exit(status);
    if first {
        kill_other_threads();
    }
    do_exit(at, status)
}

/// Makes all other threads of the current process end as soon as they can.
pub fn kill_other_threads() {
    let task = current();
    for thread in task.process.threads() {
        if !core::ptr::eq(&*thread, task) {
            crate::signal::send::kill_thread(&thread);
        }
    }
}

/// Ends the current task.
pub fn do_exit(at: &mut InKernel<'_, Gate>, status: WaitStatus) -> ! {
    if current().trace.is_traced() {
        crate::ptrace::stop::event(at, ptrace::Event::Exit, status.bits() as u32 as u64);
    }
    signal::exit_thread();
    crate::work::lifecycle::release();
    release_user_state();
    let task = current();
    crate::ptrace::attach::exit_tracer();
    let process = task.process.clone();
    let (refs, last, to_signal) = {
        let mut tree = tree();
        process.usage.add(&task.usage);
        if task.tid() == process.pid {
            *process.leader.lock() = Leader { comm: task.comm(), nice: task.policy.nice.load(Relaxed) };
        }
        let (refs, last, to_signal) = tree.remove_thread(task);
        if task.trace.is_traced() {
            crate::ptrace::attach::thread_ended(&mut tree, &current_arc(), status, last);
        }
        (refs, last, to_signal)
    };
    tell_of_death(&process, to_signal);
    process.threads_changed.wake_all();
    if last {
        end_process(&process, status);
    }
    drop(process);
    // The scheduler's reference keeps the task, and the stack this runs on, until another stack is switched to.
    drop(refs);
    // A preemption in between would queue a task that the next switch frees.
    x86_64::instructions::interrupts::disable();
    scheduler::set_state(state::DEAD);
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
pub fn leave_memory(to: Arc<AddressSpace>) {
    let task = current();
    crate::life::futex::pi::begin_exit(task);
    robust::release(task);
    crate::life::futex::pi::end_exit(task, Arc::ptr_eq(&to, &kernel_mm()));
    let address = task.clear_child_tid.swap(0, Relaxed);
    // Without another user of the memory there is nobody to tell.
    if address != 0 && Arc::strong_count(&task.mm) > 1 && user::write(address, &0u32).is_ok() {
        crate::life::futex::wake(address, 1);
    }
    let peak = task.mm.peak_resident();
    task.process.usage.peak_resident.fetch_max(peak, Relaxed);
    crate::work::lifecycle::leave_memory();
    let old = replace_mm(to);
    fork::release_vfork_parent();
    drop(old);
}

/// The last thread has ended, with this status.
fn end_process(process: &Arc<Process>, status: WaitStatus) {
    process.timers.stop_all();
    if process.is_session_leader() {
        crate::fs::tty::session_leader_exits(process);
    }
    let pid = process.pid;
    let groups = groups_of_children(process);
    let namespace = choice::close(process);
    let orphans = tree().reparent_children(pid);
    for pgrp in groups {
        end::hang_up_if_orphaned(pgrp, None);
    }
    tell_of_death(process, orphans.to_signal);
    if let Some(heir) = orphans.new_parent {
        heir.children_changed.wake_all();
    }
    if let Some(namespace) = namespace {
        end_namespace(namespace, process);
    }
    let told = {
        let mut tree = tree();
        // Asked for only now, and with the end made public under the same lock: until here the parent may have ended, too.
        if let Some(node) = tree.node_mut(pid) {
            node.zombie = Some(process.group_exit().unwrap_or(status));
        }
        end::tell_of_end(&mut tree, process)
    };
    if let Some(told) = told {
        end::after_telling(process, told);
    }
}

/// Ends all others of a namespace whose init is ending, and waits until they are gone.
fn end_namespace(namespace: &Arc<PidNamespace>, init: &Process) {
    let is_member = |process: &Process| process.pid != init.pid && numbers::is_in(process, namespace);
    {
        let tree = tree();
        for node in tree.nodes().filter(|node| is_member(&node.process)) {
            // Never refused.
            let _ = signal::send::to_process_in(&tree, &node.process, SigInfo::kernel(SIGKILL));
        }
    }
    namespace.changed.wait_uninterruptible(|| {
        let gone = !tree().nodes().any(|node| is_member(&node.process));
        gone.then_some(())
    });
}

/// Sends children what they asked for (PR_SET_PDEATHSIG), if the process that ends may signal them.
fn tell_of_death(process: &Process, to_signal: Vec<DeathSignal>) {
    if to_signal.is_empty() {
        return;
    }
    let uid = process.credentials.lock().user.real;
    for (child, signo) in to_signal {
        let info = SigInfo::user(signo, SI_USER, process.pid, uid);
        if crate::signal::permission::check(&child, &info).is_ok() {
            // A full queue loses it, as any other.
            let _ = crate::signal::send::to_process(&child, info);
        }
    }
}

/// The groups of the children that looked to this process for job control.
fn groups_of_children(process: &Process) -> Vec<Pid> {
    let tree = tree();
    let Some(node) = tree.node(process.pid) else {
        return Vec::new();
    };
    let mut groups = Vec::new();
    for child in node.children.iter().filter_map(|&child| tree.node(child)).map(|child| &child.process) {
        let group = child.pgrp();
        if child.session() == process.session() && group != process.pgrp() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}
