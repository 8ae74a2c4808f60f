//! Who traces whom: attach, detach, and what becomes of it at fork, exec and exit.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use portcullis::work::SyscallWork;

use crate::errno::{Errno, Result};
use crate::ptrace::registers::Stopped;
use crate::ptrace::step;
use crate::sched::state::{STOPPED, TRACED};
use crate::sched::{scheduler, state};
use crate::signal::{SIGCHLD, SIGKILL, SIGRTMAX, SIGSTOP, SigInfo, child_info, end};
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::capable;
use crate::task::pid::{Pid, REAPER};
use crate::task::trace_state::{EXITKILL, OPTIONS, PRIVILEGED, SEIZED, SUSPEND_SECCOMP, TRACED as IS_TRACED};
use crate::task::tree::{Node, Tree};
use crate::task::wait_status::WaitStatus;
use crate::task::{Process, Task, current, current_arc, tree};

/// PTRACE_TRACEME: the thread that forked this process becomes its tracer.
pub fn traceme() -> Result<()> {
    let task = current_arc();
    let privileged = privileged_over(&task);
    let tree = tree::tree();
    if task.trace.is_traced() {
        return Err(Errno::EPERM);
    }
    let node = tree.node(task.process.pid).ok_or(Errno::ESRCH)?;
    // The kernel's reaper waits for ends only.
    if node.parent == REAPER {
        return Err(Errno::EPERM);
    }
    // A parent that is just ending traces nobody; that is no error.
    if let Some(parent) = tree.task(node.parent_thread)
        && !parent.signals.lock().is_exiting()
    {
        let _shared = task.process.signals.lock();
        link(&task, parent, privileged, 0);
    }
    Ok(())
}

/// [`PRIVILEGED`] if the current task might trace any process of the task's user namespace.
fn privileged_over(task: &Task) -> u32 {
    let namespace = task.process.credentials.lock().namespace.clone();
    if capable::capable_in(&namespace, Capability::SysPtrace) { PRIVILEGED } else { 0 }
}

/// PTRACE_O_* that may be set.
pub fn check_options(options: u64) -> Result<u32> {
    if options & !u64::from(OPTIONS) != 0 {
        return Err(Errno::EINVAL);
    }
    let options = options as u32;
    if options & SUSPEND_SECCOMP != 0 && !capable::is_admin() {
        return Err(Errno::EPERM);
    }
    Ok(options)
}

/// PTRACE_ATTACH (`seize` is None) and PTRACE_SEIZE with its options.
pub fn attach(task: &Arc<Task>, seize: Option<u64>) -> Result<()> {
    let options = match seize {
        // Other than PTRACE_SETOPTIONS says it.
        Some(options) if options & !u64::from(OPTIONS) != 0 => return Err(Errno::EIO),
        Some(options) => check_options(options)?,
        None => 0,
    };
    let myself = current_arc();
    if task.is_kernel_thread() || core::ptr::eq(&*task.process, &*myself.process) {
        return Err(Errno::EPERM);
    }
    crate::task::credentials::access::check(task)?;
    let privileged = privileged_over(task);
    {
        let tree = tree::tree();
        // A thread that has left the tree has ended.
        if task.trace.is_traced() || tree.task(task.tid()).is_none() {
            return Err(Errno::EPERM);
        }
        if exec_waits_for_tracer(&tree, &task.process) {
            return Err(Errno::EAGAIN);
        }
        {
            let _shared = task.process.signals.lock();
            let seized = if seize.is_some() { SEIZED } else { 0 };
            link(task, &myself, seized | privileged, options);
        }
        if seize.is_none() {
            // Sent by the kernel; a standard signal is never refused.
            let _ = crate::signal::send::to_task_in(&tree, task, SigInfo::kernel(SIGSTOP));
        }
        // A task that is in a group stop goes over to one for the tracer without having been seen in between.
        let _shared = task.process.signals.lock();
        let mut signals = task.signals.lock();
        if signals.stop.stopped && signals.may_trap() {
            signals.trap.stop = true;
            signals.trap.trapping = true;
            signals.stop.stopped = false;
            drop(signals);
            crate::signal::send::raise(task);
            scheduler::wake_state(task, STOPPED);
        }
    }
    let arrived = || (!task.signals.lock().trap.trapping).then_some(());
    // Whoever is killed here does not come back to user mode.
    let _ = task.trace.trapped.wait_killable(arrived);
    Ok(())
}

/// Whether a thread of the process is in exec and waits until tracers have seen other threads end. A new tracer could only
/// attach to what is about to be replaced; and if it is it that exec waits for, it is to wait for those threads first.
fn exec_waits_for_tracer(tree: &Tree, process: &Process) -> bool {
    process.exec_thread.load(SeqCst) != 0 && tree.node(process.pid).is_some_and(|node| node.lingering != 0)
}

/// PTRACE_DETACH: the task goes on with `signo`.
pub fn detach(stopped: &mut Stopped<'_>, signo: u64) -> Result<()> {
    if signo > SIGRTMAX as u64 {
        return Err(Errno::EIO);
    }
    step::disable(stopped);
    let task = stopped.task();
    let links = {
        let _tree = tree::tree();
        task.signals.lock().trap.code = signo as i32;
        release(task)
    };
    drop(links);
    Ok(())
}

/// The task is traced no more: it goes on, or takes its part in a group stop that is under way. What is returned is to be
/// dropped without the lock. With the tree locked.
fn release(task: &Task) -> impl Sized + use<> {
    let shared = task.process.signals.lock();
    let links = unlink(task);
    let mut signals = task.signals.lock();
    signals.trap.stop = false;
    signals.trap.notify = false;
    signals.trap.listening = false;
    signals.trap.frozen = false;
    signals.end_trapping(&task.trace.trapped);
    if !signals.is_exiting() && (shared.is_stopped() || shared.stop_count != 0) {
        signals.stop.pending = true;
        // A thread that a traced one made while the others were stopped.
        if signals.stop.signo == 0 {
            signals.stop.signo = SIGSTOP;
        }
    }
    let stops = signals.stop.pending;
    if stops || signals.trap.stopped {
        signals.trap.stopped = false;
        drop(signals);
        crate::signal::send::raise(task);
        scheduler::wake_state(task, state::INTERRUPTIBLE | TRACED);
    }
    drop(shared);
    links
}

/// A task that has just been made: a child of a traced task is traced, too, if the tracer wants to know of such children,
/// or if the parent says so (CLONE_PTRACE). It begins with a stop. With the tree locked.
pub fn inherit(child: &Arc<Task>, parent: &Task) {
    let Some(tracer) = parent.trace.tracer() else {
        return;
    };
    let seized = parent.trace.is_seized();
    link(child, &tracer, parent.trace.how(), parent.trace.options());
    let mut signals = child.signals.lock();
    if seized {
        signals.trap.stop = true;
    } else {
        signals.add_lost(SIGSTOP);
    }
}

/// Exit: the tracees of the current task, which ends, go on without it. Those that are still to be let go may make more
/// ([`inherit`]), which come behind them in the list, and stopped.
pub fn exit_tracer() {
    let task = current();
    while task.trace.has_tracees() {
        let (tracee, links, released) = {
            let mut tree = tree::tree();
            let Some(tracee) = task.trace.find_tracee(|tracee| Some(tracee.clone())) else {
                return;
            };
            if tracee.trace.options() & EXITKILL != 0 {
                // A standard signal is never refused.
                let _ = crate::signal::send::to_task_in(&tree, &tracee, SigInfo::kernel(SIGKILL));
            }
            let links = release(&tracee);
            let released = tracee.trace.ended().is_some() && let_go(&mut tree, &tracee, task.process.pid);
            (tracee, links, released)
        };
        drop(links);
        if released {
            end::announce_end(&tracee.process);
        }
    }
}

/// A traced thread ends: it stays with its tracer until that has waited for it. `last`: it was the last of its process,
/// whose end is announced anyway. With the tree locked, and the thread taken out of it.
pub fn thread_ended(tree: &mut Tree, task: &Arc<Task>, status: WaitStatus, last: bool) {
    let Some(tracer) = task.trace.tracer() else { return };
    task.trace.set_ended(status);
    let Some(node) = tree.node_mut(task.process.pid) else {
        return;
    };
    let leads = task.tid() == task.process.pid;
    if leads {
        node.traced_leader = Some(task.clone());
    } else {
        node.lingering += 1;
    }
    if !(leads && last && node.lingering == 0) {
        let info = child_info::thread_end(SIGCHLD, task, status);
        // A standard signal is never refused.
        let _ = crate::signal::send::to_process_in(tree, &tracer.process, info);
        tracer.process.children_changed.wake_all();
    }
}

/// A traced thread that has ended is with its tracer, of process `tracer`, no more. Says whether the end of its process is
/// to be announced now. With the tree locked.
fn let_go(tree: &mut Tree, task: &Task, tracer: Pid) -> bool {
    let ignores = tree.node(tracer).is_some_and(Node::ignores_children);
    let Some(node) = tree.node_mut(task.process.pid) else {
        return false;
    };
    if task.tid() != task.process.pid {
        node.lingering = node.lingering.saturating_sub(1);
        node.process.threads_changed.wake_all();
    } else {
        node.traced_leader = None;
        // A parent who was the tracer has been told, and will wait, or will not.
        if node.parent == tracer && !ignores {
            return false;
        }
    }
    node.zombie.is_some() && node.lingering == 0
}

/// The tracer has waited for a thread that has ended: nobody traces it any more. None if another wait was faster.
/// Otherwise what is to be dropped without the lock, and whether the end of the thread's process is to be announced.
pub fn waited_for(tree: &mut Tree, task: &Task) -> Option<(impl Sized + use<>, bool)> {
    let tracer = task.trace.tracer()?.process.pid;
    let links = release(task);
    let announce = let_go(tree, task, tracer);
    Some((links, announce))
}

/// Exec by a thread that takes over the leader's place: the leader, which has ended, is forgotten by its tracer. What is
/// returned is to be dropped without the lock.
pub fn forget_leader(tree: &mut Tree, pid: Pid) -> impl Sized + use<> {
    let leader = tree.node_mut(pid).and_then(|node| node.traced_leader.take());
    let links = leader.as_deref().map(unlink);
    (leader, links)
}

/// Makes `tracer` the tracer of `task`, with [`SEIZED`] or [`PRIVILEGED`] if that holds. With the tree locked.
fn link(task: &Arc<Task>, tracer: &Arc<Task>, how: u32, options: u32) {
    tracer.trace.links.lock().tracees.push(task.clone());
    task.trace.links.lock().tracer = Some(tracer.clone());
    task.trace.flags.store(IS_TRACED | how | options, Relaxed);
}

/// Undoes [`link`]. The references that were held, to be dropped without the lock.
fn unlink(task: &Task) -> (Option<Arc<Task>>, Option<Arc<Task>>) {
    task.work.disarm(SyscallWork::TRACE | SyscallWork::EMU);
    task.trace.flags.store(0, Relaxed);
    let tracer = task.trace.links.lock().tracer.take();
    let itself = tracer.as_ref().and_then(|tracer| {
        let tracees = &mut tracer.trace.links.lock().tracees;
        let at = tracees.iter().position(|tracee| core::ptr::eq(&**tracee, task))?;
        Some(tracees.remove(at))
    });
    (tracer, itself)
}
