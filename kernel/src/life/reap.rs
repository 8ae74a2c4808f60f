//! Waiting for children and reaping them; PID 1, which reaps orphans.

use alloc::sync::Arc;

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::sched::scheduler;
use crate::task::credentials::uid_gid::USER;
use crate::task::credentials::user_namespace;
use crate::task::exit_signal::ExitSignal;
use crate::task::pid::numbers::seen;
use crate::task::pid::{FIRST_PROGRAM, Pid, REAPER};
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::tree::{Tree, tree};
use crate::task::usage::{Rusage, with_children};
use crate::task::wait_status::WaitStatus;
use crate::task::{Task, current, tree};

/// Which children.
#[derive(Clone, Copy)]
pub enum Which<'a> {
    Any,
    Pid(Pid),
    Group(Pid),
    /// This very one, whoever has its number by now.
    Process(&'a Process),
}

impl Which<'_> {
    /// Whether a process is meant, or the thread of it with this id.
    fn includes(self, process: &Process, id: Pid) -> bool {
        match self {
            Which::Any => true,
            Which::Pid(pid) => id == pid,
            Which::Group(pgrp) => process.pgrp() == pgrp,
            Which::Process(other) => core::ptr::eq(process, other) && id == process.pid,
        }
    }
}

/// What was found out about a child.
pub struct Report {
    /// As the waiting process sees it.
    pub pid: Pid,
    pub change: Change,
    /// Where they were asked for.
    pub details: Option<Details>,
}

/// What not everybody who waits wants to know.
pub struct Details {
    /// The child's real user, as the waiting process sees it.
    pub uid: u32,
    pub usage: Rusage,
}

/// What happened to it.
#[derive(Clone, Copy)]
pub enum Change {
    Ended(WaitStatus),
    /// By this signal.
    Stopped(i32),
    /// For its tracer, with this code.
    Trapped(i32),
    Continued,
}

impl Change {
    /// As `wait4` reports it.
    pub fn status(self) -> WaitStatus {
        match self {
            Change::Ended(status) => status,
            Change::Stopped(code) | Change::Trapped(code) => WaitStatus::stopped(code),
            Change::Continued => WaitStatus::continued(),
        }
    }

    /// As `waitid` reports it: si_code and si_status.
    pub fn code_and_status(self) -> (i32, i32) {
        match self {
            Change::Ended(status) => SigInfo::end(status),
            Change::Stopped(signal) => (CLD_STOPPED as i32, signal),
            Change::Trapped(code) => (CLD_TRAPPED as i32, code),
            Change::Continued => (CLD_CONTINUED as i32, SIGCONT as i32),
        }
    }
}

/// Waits for a child of the current process. `options`: `W*`; `details`: whether the report has them. None if nothing has
/// happened yet and WNOHANG is set.
pub fn wait(which: Which<'_>, options: u32, details: bool) -> Result<Option<Report>> {
    let process = &current().process;
    if options & WNOHANG != 0 {
        return look(process, which, options, details).transpose();
    }
    process.children_changed.wait_until(|| look(process, which, options, details))?.map(Some)
}

/// Looks once. None if the caller has to wait.
fn look(process: &Arc<Process>, which: Which<'_>, options: u32, details: bool) -> Option<Result<Report>> {
    let mut candidates = false;
    let found = {
        let tree = tree();
        find_child(&tree, process, which, options, &mut candidates)
            .or_else(|| find_tracee(&tree, process, which, options, &mut candidates))
    };
    let Some(found) = found else {
        return if candidates { None } else { Some(Err(Errno::ECHILD)) };
    };
    // While it has its number.
    let pid = seen(found.pid);
    let details = details.then(|| {
        let uid = found.process.credentials.lock().user.real;
        Details {
            uid: user_namespace::seen(&process.credentials.lock().namespace, USER, uid),
            usage: Rusage::from(&with_children(&found.process)),
        }
    });
    if let (Change::Ended(_), 0) = (found.change, options & WNOWAIT) {
        let taken = match &found.tracee {
            Some(task) => let_go(task),
            None => reap(found.pid),
        };
        if !taken {
            // Another thread was faster: look again.
            return look(process, which, options, details.is_some());
        }
    }
    Some(Ok(Report { pid, change: found.change, details }))
}

/// What was found.
struct Found {
    pid: Pid,
    process: Arc<Process>,
    change: Change,
    /// Where it ended as a tracee: it is let go, and its parent may wait then.
    tracee: Option<Arc<Task>>,
}

/// Looks at the process's children.
fn find_child(tree: &Tree, process: &Process, which: Which<'_>, options: u32, candidates: &mut bool) -> Option<Found> {
    let children = &tree.node(process.pid)?.children;
    for child in children.iter().filter_map(|&pid| tree.node(pid)) {
        let chosen = which.includes(&child.process, child.process.pid);
        let is_clone = child.exit_signal != ExitSignal::CHILD;
        let kind = options & __WALL != 0 || is_clone == (options & __WCLONE != 0);
        let mine = options & __WNOTHREAD == 0 || child.parent_thread == current().tid();
        if !(chosen && kind && mine) {
            continue;
        }
        let found = |change| Found { pid: child.process.pid, process: child.process.clone(), change, tracee: None };
        match child.leader_traced_by() {
            // One of our threads traces it: it is looked at as a tracee, which sees more.
            Some(tracer) if tracer == process.pid => {
                let leader = child.leader()?;
                if let Some(found) = look_at_tracee(tree, process, leader, options, candidates) {
                    return Some(found);
                }
                continue;
            }
            // Its end is its tracer's to see first.
            Some(_) if child.zombie.is_some() => {
                *candidates = true;
                continue;
            }
            // One that has ended has nothing left to do but to be waited for.
            _ => {
                let ended = child.zombie.is_some() && child.lingering == 0;
                *candidates |= !ended || options & WEXITED != 0;
            }
        }
        let change = match child.zombie {
            Some(status) if options & WEXITED != 0 && child.lingering == 0 => Some(Change::Ended(status)),
            Some(_) => None,
            None => stop_or_continue(&child.process, options),
        };
        if let Some(change) = change {
            return Some(found(change));
        }
    }
    None
}

/// Looks at whom the process's threads trace.
fn find_tracee(tree: &Tree, process: &Process, which: Which<'_>, options: u32, candidates: &mut bool) -> Option<Found> {
    let myself = current();
    let mut of_thread = |thread: &Task| {
        thread.trace.find_tracee(|tracee| {
            if !which.includes(&tracee.process, tracee.tid()) {
                return None;
            }
            look_at_tracee(tree, process, tracee, options, candidates)
        })
    };
    if options & __WNOTHREAD != 0 {
        return of_thread(myself);
    }
    tree.node(process.pid)?.threads.iter().find_map(|thread| of_thread(thread))
}

/// Looks at one tracee of the process.
fn look_at_tracee(
    tree: &Tree,
    tracer: &Process,
    tracee: &Arc<Task>,
    options: u32,
    candidates: &mut bool,
) -> Option<Found> {
    let found = |change, tracee_that_ended| Found {
        pid: tracee.tid(),
        process: tracee.process.clone(),
        change,
        tracee: tracee_that_ended,
    };
    if let Some(status) = tracee.trace.ended() {
        let node = tree.node(tracee.process.pid)?;
        let leads = tracee.tid() == tracee.process.pid;
        // A leader's end is that of its process: after all other threads.
        let status = match (leads, node.zombie) {
            (false, _) => Some(status),
            (true, zombie) => zombie.filter(|_| node.lingering == 0),
        };
        // It may go on with its process, but not stop any more.
        *candidates |= options & WEXITED != 0 || status.is_none() && options & WCONTINUED != 0;
        let status = status.filter(|_| options & WEXITED != 0)?;
        // A child of ours is reaped, not let go.
        let own = leads && node.parent == tracer.pid;
        return Some(found(Change::Ended(status), (!own).then(|| tracee.clone())));
    }
    *candidates = true;
    let stopped = {
        let trap = &mut tracee.signals.lock().trap;
        let stopped = trap.stopped && !trap.listening && trap.code != 0;
        let code = trap.code;
        if stopped && options & WNOWAIT == 0 {
            trap.code = 0;
        }
        stopped.then_some(code)
    };
    if let Some(code) = stopped {
        return Some(found(Change::Trapped(code), None));
    }
    let continued =
        options & WCONTINUED != 0 && tracee.process.signals.lock().take_continue_report(options & WNOWAIT == 0);
    continued.then(|| found(Change::Continued, None))
}

/// A tracer has waited for a thread that has ended. False if another wait was faster.
fn let_go(task: &Arc<Task>) -> bool {
    let Some((links, announce)) = crate::ptrace::attach::waited_for(&mut tree(), task) else {
        return false;
    };
    drop(links);
    if announce {
        crate::signal::end::announce_end(&task.process);
    }
    true
}

/// Takes (or, with WNOWAIT, only reads) the news that a child has stopped or continued.
fn stop_or_continue(child: &Process, options: u32) -> Option<Change> {
    let consume = options & WNOWAIT == 0;
    let mut signals = child.signals.lock();
    if options & WSTOPPED != 0
        && let Some(signal) = signals.take_stop_report(consume)
    {
        return Some(Change::Stopped(signal));
    }
    (options & WCONTINUED != 0 && signals.take_continue_report(consume)).then_some(Change::Continued)
}

/// Takes a zombie out of the tree and adds what it used to its parent's children. False if it was taken already.
pub fn reap(pid: Pid) -> bool {
    let (node, parent, links) = {
        let mut tree = tree();
        // Where its parent traced it, too.
        let links = crate::ptrace::attach::forget_leader(&mut tree, pid);
        let Some(node) = tree.remove(pid) else {
            return false;
        };
        let parent = tree.node(node.parent).map(|parent| parent.process.clone());
        (node, parent, links)
    };
    drop(links);
    if let Some(parent) = parent {
        account(&parent, &node.process);
    }
    true
}

/// Adds what a child has used to what its parent's children have.
fn account(parent: &Process, child: &Process) {
    parent.children_usage.add(&child.usage);
    parent.children_usage.add(&child.children_usage);
}

/// Starts PID 1.
pub fn start_reaper() {
    let mut tree = tree();
    let pid = tree.allocate_pid().expect("PID 1");
    assert_eq!(pid, REAPER);
    drop(tree);
    let task = tree::kernel_task(pid, |_| reaper()).expect("no memory for PID 1");
    task.set_comm(b"reaper");
    tree::tree().add_process(0, 0, ExitSignal::default(), &task);
    scheduler::start(task);
}

/// PID 1: waits for its children for ever. When the first program has ended, so has the machine's purpose.
fn reaper() {
    loop {
        let process = &current().process;
        let options = WEXITED | __WALL;
        let report = process.children_changed.wait_uninterruptible(|| {
            // With no children at the moment, wait for some.
            look(process, Which::Any, options, false)?.ok()
        });
        if let (FIRST_PROGRAM, Change::Ended(status)) = (report.pid, report.change) {
            // As a shell has it.
            let signal = || 128 + status.term_signal().unwrap_or(0);
            crate::machine::power::shutdown(status.exit_code().unwrap_or_else(signal));
        }
    }
}

#[cfg(test)]
mod tests;
