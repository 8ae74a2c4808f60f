//! Making a task, as fork(2) and clone(2) ask for it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use crate::errno::{Errno, Result};
use crate::fs::pidfd;
use crate::life::clone_flags::CloneFlags;
use crate::machine::gate::Gate;
use crate::memory::{USER_END, user};
use crate::ptrace::Event;
use crate::sched::lent::lend;
use crate::sched::segments::{port_rights, thread_area};
use crate::sched::switch::copy_fpu;
use crate::sched::thread::SwitchWork;
use crate::sched::wait::Completion;
use crate::sched::{scheduler, switch};
use crate::task::exit_signal::ExitSignal;
use crate::task::pid::choice::ReservedPid;
use crate::task::pid::{FIRST_PROGRAM, Pid, REAPER, choice, namespace, numbers};
use crate::task::tree::tree;
use crate::task::{NewTask, Process, Task, current, current_arc, syscall_info, tree};
use crate::work::{lifecycle, trace_points, uprobe};

/// What to share with the child, and how it starts.
#[derive(Default)]
pub struct Clone {
    /// `CLONE_*`.
    pub flags: CloneFlags,
    /// What the parent gets when the child ends.
    pub exit_signal: ExitSignal,
    /// The child's stack pointer; 0 for the parent's.
    pub stack: u64,
    /// Where the TID goes (CLONE_PARENT_SETTID).
    pub parent_tid: u64,
    /// Where it goes, or is cleared, in the memory of the child.
    pub child_tid: u64,
    /// The base of FS, or where a descriptor is.
    pub tls: u64,
    /// Where the pidfd goes (CLONE_PIDFD).
    pub pidfd: u64,
    /// The numbers that the child is to have, the innermost namespace's first; none: any.
    pub pids: Vec<Pid>,
    /// Asks for a control group (CLONE_INTO_CGROUP).
    pub into_cgroup: bool,
}

impl Clone {
    fn has(&self, flags: CloneFlags) -> bool {
        self.flags.contains(flags)
    }

    /// What a tracer of the parent is told.
    fn event(&self) -> Option<Event> {
        if self.has(CloneFlags::UNTRACED) {
            None
        } else if self.has(CloneFlags::VFORK) {
            Some(Event::Vfork)
        } else if self.exit_signal != ExitSignal::CHILD {
            Some(Event::Clone)
        } else {
            Some(Event::Fork)
        }
    }
}

/// Makes the child and lets it run. Returns its TID.
pub fn clone(at: &mut InKernel<'_, Gate>, clone: Clone) -> Result<usize> {
    let needs = |flag, other| clone.has(flag) && !clone.has(other);
    if !CloneFlags::SUPPORTED.contains(clone.flags)
        || needs(CloneFlags::THREAD, CloneFlags::SIGHAND)
        || needs(CloneFlags::SIGHAND, CloneFlags::VM)
        || clone.has(CloneFlags::PIDFD) && !may_have_pidfd(&clone)
    {
        return Err(Errno::EINVAL);
    }
    let parent = current();
    check_namespaces(parent, &clone)?;
    let group_signals = tree::group_signals();
    if parent.signal_pending() {
        return Err(Errno::ERESTARTNOINTR);
    }
    let event = clone.event().filter(|&event| parent.trace.wants(event));
    let busy = uprobe::Busy::new();
    let (child, number) = new_task(parent, at.saved(), &clone)?;
    let pidfd = clone.has(CloneFlags::PIDFD).then(|| NewPidfd::install(&child, clone.pidfd));
    let pidfd = pidfd.transpose()?;
    if clone.into_cgroup {
        return Err(Errno::EBADF);
    }
    let vfork_done = clone.has(CloneFlags::VFORK).then(|| Arc::new(Completion::new()));
    *child.vfork_done.lock() = vfork_done.clone();
    let traced = event.is_some() || clone.has(CloneFlags::PTRACE);
    publish(parent, &child, number, &clone, group_signals, traced)?;
    drop(busy);
    if let Some(pidfd) = pidfd {
        pidfd.keep();
    }
    let id = child.tid();
    let number = numbers::seen(id);
    if clone.has(CloneFlags::PARENT_SETTID) {
        // Before the child runs, so that it finds it too. Linux ignores a bad address here.
        let _ = user::write(clone.parent_tid, &number);
    }
    let for_tracer = parent.trace.tracer().map_or(0, |tracer| numbers::seen_by(&tracer.process, id));
    scheduler::start(child);
    if let Some(event) = event {
        crate::ptrace::stop::event(at, event, for_tracer as u64);
    }
    if let Some(done) = vfork_done {
        // Only being killed ends this wait early; the child then keeps the completion alive.
        if lend(at, || done.wait_killable()).is_ok() && parent.trace.wants(Event::VforkDone) {
            crate::ptrace::stop::event(at, Event::VforkDone, for_tracer as u64);
        }
    }
    Ok(number as usize)
}

/// A thread has no pidfd. By `clone` it goes to where the TID would go, so that there is no place for both.
fn may_have_pidfd(clone: &Clone) -> bool {
    let same_place = clone.has(CloneFlags::PARENT_SETTID) && clone.pidfd == clone.parent_tid;
    !(clone.has(CloneFlags::THREAD) || clone.has(CloneFlags::DETACHED) || same_place)
}

/// The pidfd of a child that is being made. It is closed again if that fails.
struct NewPidfd(Option<u64>);

impl NewPidfd {
    /// Makes it, and writes its number to `address`.
    fn install(child: &Task, address: u64) -> Result<Self> {
        let fd = pidfd::install(&child.process, 0)?;
        let new = NewPidfd(Some(fd));
        user::write(address, &(fd as i32))?;
        Ok(new)
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for NewPidfd {
    fn drop(&mut self) {
        if let Some(fd) = self.0 {
            // Another thread may have closed it.
            let _ = current().files.close(fd);
        }
    }
}

/// Threads are of one namespace. Orphans of a namespace are its init's, which is to have no sisters.
fn check_namespaces(parent: &Task, clone: &Clone) -> Result<()> {
    let here = &parent.process.pid_namespace;
    let stays = !clone.has(CloneFlags::NEWUSER)
        && !clone.has(CloneFlags::NEWPID)
        && namespace::is_same(here, &parent.pid_namespace_of_children.lock());
    if clone.has(CloneFlags::THREAD) && !stays
        || clone.has(CloneFlags::PARENT) && parent.process.unkillable.load(Relaxed)
        || clone.has(CloneFlags::FS) && clone.flags.intersects(CloneFlags::NEWUSER | CloneFlags::NEWNS)
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Makes everything that the child does not share.
fn new_task(parent: &Task, regs: &UserRegs, clone: &Clone) -> Result<(Arc<Task>, ReservedPid)> {
    let number;
    let process = if clone.has(CloneFlags::THREAD) {
        number = ReservedPid::new(&parent.process.pid_namespace, &clone.pids)?;
        parent.process.clone()
    } else {
        let mut credentials = parent.process.credentials.lock().clone();
        if clone.has(CloneFlags::NEWUSER) {
            credentials.enter_new_namespace()?;
        }
        let namespace = if clone.has(CloneFlags::NEWPID) {
            numbers::new(&credentials)?
        } else {
            parent.pid_namespace_of_children.lock().clone()
        };
        number = ReservedPid::new(&namespace, &clone.pids)?;
        let process = Process::new(number.pid(), Some(&parent.process), namespace);
        *process.credentials.lock() = credentials;
        process
    };
    let mm = if clone.has(CloneFlags::VM) { parent.mm() } else { parent.mm.fork()? };
    let files = if clone.has(CloneFlags::FILES) { parent.files.clone() } else { Arc::new(parent.files.duplicate()?) };
    let fs = if clone.has(CloneFlags::FS) {
        parent.fs.clone()
    } else if clone.has(CloneFlags::NEWNS) {
        let credentials = process.credentials.lock().clone();
        Arc::new(credentials.own_mounts(&parent.fs)?)
    } else {
        Arc::new(parent.fs.duplicate())
    };
    let sighand = if clone.has(CloneFlags::SIGHAND) {
        parent.sighand.clone()
    } else {
        let copy = parent.sighand.fork();
        if clone.has(CloneFlags::CLEAR_SIGHAND) {
            copy.clear_handlers();
        }
        Arc::new(copy)
    };
    // A thread that shares memory must not share the alternate stack; after vfork the parent does not run meanwhile.
    let keeps_altstack = !clone.has(CloneFlags::VM) || clone.has(CloneFlags::VFORK);
    let signals = parent.signals.lock().fork(keeps_altstack);
    let mut child_regs = *regs;
    child_regs.rax = 0;
    crate::ptrace::step::not_inherited(parent, &mut child_regs);
    if clone.stack != 0 {
        child_regs.rsp = clone.stack;
    }
    let child = Task::new(NewTask {
        tid: number.pid(),
        process,
        mm,
        files: Some(files),
        fs: Some(fs),
        sighand,
        signals,
        regs: child_regs,
        start: None,
    })?;
    // SAFETY: the child is not running: its area is ours.
    copy_fpu(&child);
    syscall_info::inherit(&child);
    port_rights::inherit(parent, &child);
    thread_area::inherit(parent, &child);
    switch::copy_segments(&child);
    child.set_switch_work(SwitchWork::NO_TSC, parent.has_switch_work(SwitchWork::NO_TSC));
    if clone.has(CloneFlags::SETTLS) {
        set_tls(&child, clone.tls)?;
    }
    *child.comm.lock() = parent.comm();
    trace_points::named(&child);
    child.policy.copy_from(&parent.policy);
    child.affinity.store(parent.affinity.load(Relaxed), Relaxed);
    child.no_new_privs.store(parent.no_new_privs.load(Relaxed), Relaxed);
    child.timer_slack.store(parent.timer_slack.load(Relaxed), Relaxed);
    if clone.has(CloneFlags::CHILD_SETTID) {
        child.set_child_tid.store(clone.child_tid, Relaxed);
    }
    if clone.has(CloneFlags::CHILD_CLEARTID) {
        child.clear_child_tid.store(clone.child_tid, Relaxed);
    }
    Ok((child, number))
}

/// CLONE_SETTLS: the base of FS for a 64-bit call; a 32-bit one gives the address of a descriptor.
fn set_tls(child: &Task, tls: u64) -> Result<()> {
    // SAFETY: the child has not started; nobody else looks at it.
    let segments = unsafe { &mut *child.saved_segments() };
    if current().syscall_info.is_compat() {
        thread_area::set_of_child(child, segments, tls)?;
    } else if tls >= USER_END {
        return Err(Errno::EPERM);
    } else {
        (segments.fs, segments.fs_base) = (0, tls);
    }
    Ok(())
}

/// Puts the child into the tree: from here on it can be found and signalled.
fn publish(
    parent: &Task,
    child: &Arc<Task>,
    number: ReservedPid,
    clone: &Clone,
    group_signals: u64,
    traced: bool,
) -> Result<()> {
    let mut tree = tree();
    // The child was not there yet when the group was signalled: begin again after the signal. The tree's lock orders this
    // against whoever signals a group.
    if parent.signal_pending()
        && (tree::group_signals() != group_signals || crate::task::signals::fatal_pending(parent))
    {
        return Err(Errno::ERESTARTNOINTR);
    }
    let process = &parent.process;
    lifecycle::inherit(&mut tree, parent, child, clone.has(CloneFlags::VM));
    if clone.has(CloneFlags::THREAD) {
        if process.group_exit().is_some() || process.exec_thread.load(SeqCst) != 0 {
            return Err(Errno::ERESTARTNOINTR);
        }
        choice::enter(&tree, child, &clone.pids)?;
        number.taken(&mut tree);
        tree.add_thread(child);
    } else {
        let (parent_pid, parent_thread): (Pid, Pid) = if clone.has(CloneFlags::PARENT) {
            let node = tree.node(process.pid).expect("the process that runs");
            if node.parent == REAPER && process.pid == FIRST_PROGRAM {
                return Err(Errno::EINVAL);
            }
            (node.parent, node.parent_thread)
        } else {
            (process.pid, parent.tid())
        };
        let exit_signal = if clone.has(CloneFlags::PARENT) {
            tree.node(process.pid).map_or(ExitSignal::CHILD, |node| node.exit_signal)
        } else {
            clone.exit_signal
        };
        choice::enter(&tree, child, &clone.pids)?;
        number.taken(&mut tree);
        tree.add_process(parent_pid, parent_thread, exit_signal, child);
    }
    if traced {
        crate::ptrace::attach::inherit(child, parent);
    }
    drop(tree);
    crate::task::signals::recalc_sigpending(child);
    Ok(())
}

/// The vfork parent of this task, if it waits, may go on: the memory is no longer shared.
pub fn release_vfork_parent() {
    let done = current_arc().vfork_done.lock().take();
    if let Some(done) = done {
        done.complete();
    }
}
