//! Sending: who gets a signal, and who is woken.
//!
//! Whoever sends to another task holds the tree's lock, and with it the list of the process's threads; then the process's
//! signals; then one thread's at a time. A task that sends to itself because of what it did ([`force`]) does without the
//! tree.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::RLIMIT_SIGPENDING;
use portcullis::work::ExitWork;

use crate::errno::{Errno, Result};
use crate::sched::state::{INTERRUPTIBLE, KILLABLE, STOPPED, TRACED};
use crate::sched::usage::Usage;
use crate::sched::{scheduler, state};
use crate::signal::{child_info, readers};
use crate::task::pid::{Pid, REAPER, numbers};
use crate::task::process::Process;
use crate::task::signals::action::{Action, ActionFlags, SIG_DFL, SIG_IGN};
use crate::task::signals::info::*;
use crate::task::signals::pending::Pending;
use crate::task::signals::set::*;
use crate::task::signals::state::ProcessSignals;
use crate::task::tree::{Node, Tree};
use crate::task::wait_status::WaitStatus;
use crate::task::{Task, current, tree};

/// Sends to a process; one of its threads takes it. From any context. Nothing happens if the process has ended.
#[inline]
pub fn to_process(process: &Process, info: SigInfo) -> Result<()> {
    send(&tree::tree(), process, None, info)
}

/// [`to_process`] with the tree locked, where the signal belongs to a change of the tree.
pub fn to_process_in(tree: &Tree, process: &Process, info: SigInfo) -> Result<()> {
    send(tree, process, None, info)
}

/// Sends to one thread, with the tree locked.
pub fn to_task_in(tree: &Tree, task: &Task, info: SigInfo) -> Result<()> {
    send(tree, &task.process, Some(task), info)
}

/// Puts back a signal that was taken, for the current task or for its process.
pub(crate) fn put_back(task: &Task, thread: Option<&Task>, info: SigInfo) {
    // What is pending again already is not sent twice.
    let info = info.with_pid(numbers::meant);
    let _ = send(&tree::tree(), &task.process, thread, info);
}

/// Sends to one thread. From any context. Nothing happens if the thread has ended.
#[inline]
pub fn to_task(task: &Task, info: SigInfo) -> Result<()> {
    send(&tree::tree(), &task.process, Some(task), info)
}

/// Sends the current thread a signal for what it tried in vain (SIGPIPE, SIGXFSZ): as if it had sent it itself.
pub fn to_current(signo: i32) {
    let task = current();
    let process = &task.process;
    let uid = process.credentials.lock().user.real;
    // Only what a program queues itself is refused for want of room.
    let _ = to_task(task, SigInfo::user(signo, SI_USER, process.pid, uid));
}

/// Sends the signal of a POSIX timer's setting, to a thread or to the process. From any context. If the last one is still
/// pending it is not sent again but counts, in `si_overrun`. Returns whether the timer will hear of it when it is taken.
pub fn timer(process: &Process, thread: Option<&Task>, info: SigInfo, setting: u32) -> bool {
    submit(&tree::tree(), process, thread, info, Some(setting)).is_ok_and(|sent| sent)
}

/// Sends to all processes of a group. From any context. ESRCH if there are none; otherwise fine if one could be sent to.
pub fn to_pgrp(pgrp: Pid, info: SigInfo) -> Result<()> {
    to_pgrp_in(&tree::tree(), pgrp, info)
}

/// [`to_pgrp`] with the tree locked.
pub(super) fn to_pgrp_in(tree: &Tree, pgrp: Pid, info: SigInfo) -> Result<()> {
    tree::note_group_signal();
    let mut result = Err(Errno::ESRCH);
    for node in tree.nodes().filter(|node| node.process.pgrp() == pgrp) {
        let sent = send(tree, &node.process, None, info);
        if result.is_err() {
            result = sent;
        }
    }
    result
}

/// Makes room for one more real-time signal, and the signals of `timers`. Allocates: for system calls, before they send.
pub fn reserve(process: &Process, thread: Option<&Task>, timers: usize) {
    match thread {
        Some(thread) => thread.signals.lock().pending.reserve(timers),
        None => process.signals.lock().pending.reserve(timers),
    }
}

/// Sends to a process or to one of its threads.
pub fn send(tree: &Tree, process: &Process, thread: Option<&Task>, info: SigInfo) -> Result<()> {
    submit(tree, process, thread, info, None).map(|_| ())
}

/// Sends what `info` says, for a setting of a POSIX timer or for anybody else. Says whether it was not thrown away.
fn submit(tree: &Tree, process: &Process, thread: Option<&Task>, info: SigInfo, timer: Option<u32>) -> Result<bool> {
    let signo = info.signo;
    let info = info.with_pid(|id| numbers::seen_by(process, id));
    // The reaper is part of the kernel. It has nothing that a signal could be delivered to.
    if process.pid == REAPER {
        return Ok(false);
    }
    // A process that has ended has no threads; it may still be waited for, and be sent to in vain.
    let Some(node) = tree.node(process.pid) else {
        return Ok(false);
    };
    let mut notice = None;
    let mut kept = false;
    {
        let mut shared = process.signals.lock();
        // Whoever is dying gets no more signals.
        if process.group_exit().is_some() {
            return Ok(false);
        }
        if SigSet::STOP.contains(signo) {
            flush(node, &mut shared, SigSet::of(&[SIGCONT]));
        } else if signo == SIGCONT {
            notice = continue_process(node, &mut shared);
        }
        if let Some(target) = thread.or(node.threads.first().map(Arc::as_ref))
            && let Some(hand) = target.sighand.share()
            && !is_ignored(target, &hand.get(signo), &info)
        {
            let limit = || process.rlimit(RLIMIT_SIGPENDING).0;
            let ProcessSignals { pending, user, .. } = &mut *shared;
            let push = |pending: &mut Pending| match timer {
                Some(setting) => pending.push_timer(info, setting),
                None => pending.push(info, user, limit),
            };
            let news = match thread {
                Some(thread) => push(&mut thread.signals.lock().pending)?,
                None => push(pending)?,
            };
            kept = true;
            if news {
                readers::notify();
                let fatal = hand.get(signo).is_fatal(signo);
                complete(node, &mut shared, thread, signo, fatal);
            }
        }
    }
    if let Some(code) = notice {
        tell_of_continue(tree, node, code);
    }
    Ok(kept)
}

/// A process goes on, or its stop has been seen to arrive.
fn tell_of_continue(tree: &Tree, node: &Node, code: i32) {
    notify_parent(tree, node, code);
    if let Some(tracer) = node.leader_tracer()
        && tracer.process.pid != node.parent
        && let Some(leader) = node.threads.first()
    {
        notify_tracer(tree, &tracer, leader, code, 0);
    }
}

/// Sends to the first thread of a process after that has ended: nobody takes it, but stopping and going on concern the whole
/// process.
pub fn to_ended_thread(tree: &Tree, process: &Process, signo: i32) {
    let Some(node) = tree.node(process.pid) else {
        return;
    };
    let notice = {
        let mut shared = process.signals.lock();
        if process.group_exit().is_some() {
            return;
        }
        if SigSet::STOP.contains(signo) {
            flush(node, &mut shared, SigSet::of(&[SIGCONT]));
        }
        if signo == SIGCONT { continue_process(node, &mut shared) } else { None }
    };
    if let Some(code) = notice {
        tell_of_continue(tree, node, code);
    }
}

/// Whether the signal would be thrown away at delivery, so that it need not be sent. A blocked signal is kept: the
/// action may change before it is unblocked.
fn is_ignored(task: &Task, action: &Action, info: &SigInfo) -> bool {
    let signo = info.signo;
    // A tracer may want to know of it all the same.
    if task.trace.is_traced() && signo != SIGKILL {
        return false;
    }
    let signals = task.signals.lock();
    !signals.blocked.union(signals.awaited).contains(signo)
        && (action.ignores(signo) || is_shielded(&task.process, action, info))
}

/// Whether a namespace's init is spared: from all signals without a handler but the two that nobody can handle, and from
/// these, too, if they come from within.
fn is_shielded(process: &Process, action: &Action, info: &SigInfo) -> bool {
    let from_outside = || info.code == SI_KERNEL || numbers::seen_by(process, current().process.pid) == 0;
    process.unkillable.load(Relaxed)
        && action.handler == SIG_DFL
        && !([SIGKILL, SIGSTOP].contains(&info.signo) && from_outside())
}

/// Forgets pending signals of a process and all its threads.
pub fn flush(node: &Node, shared: &mut ProcessSignals, signals: SigSet) {
    shared.pending.flush(signals);
    for thread in &node.threads {
        thread.signals.lock().pending.flush(signals);
    }
}

/// SIGCONT takes effect when it is sent, whatever becomes of it afterwards: stop signals are forgotten, stopped threads go
/// on. Returns what the parent is to be told.
fn continue_process(node: &Node, shared: &mut ProcessSignals) -> Option<i32> {
    flush(node, shared, SigSet::STOP);
    for thread in &node.threads {
        let mut signals = thread.signals.lock();
        signals.stop.clear();
        if !signals.trap.is_pending() {
            signals.end_trapping(&thread.trace.trapped);
        }
        if thread.trace.is_seized() {
            drop(signals);
            tell_of_stop(thread);
        } else {
            signals.stop.stopped = false;
            drop(signals);
            scheduler::wake_state(thread, STOPPED);
        }
    }
    let notice = if shared.stopped {
        CLD_CONTINUED
    } else if shared.stop_count != 0 {
        // It had not stopped altogether, but whoever sent the stop signal is to know that it arrived.
        CLD_STOPPED
    } else {
        return None;
    };
    shared.stopped = false;
    shared.continued = true;
    shared.stop_count = 0;
    shared.stop_signal = 0;
    Some(notice)
}

/// The signal is pending: finds a thread to take it. If it is going to end the process, that begins right away.
fn complete(node: &Node, shared: &mut ProcessSignals, thread: Option<&Task>, signo: i32, fatal: bool) {
    let target = match thread {
        Some(thread) => wants(thread, signo).then_some(thread),
        None => choose(node, shared, signo),
    };
    // If nobody wants it now, whoever unblocks it first takes it.
    let Some(target) = target else { return };
    let core = SigSet::CORE.contains(signo);
    let asked = thread.or(node.threads.first().map(Arc::as_ref)).unwrap_or(target);
    let traced = asked.trace.is_traced() && signo != SIGKILL;
    if fatal && !core && !traced && !target.signals.lock().awaited.contains(signo) {
        node.process.begin_group_exit(WaitStatus::killed(signo));
        shared.stop_count = 0;
        node.threads.iter().for_each(|thread| kill(thread));
        return;
    }
    wake_up(target, signo == SIGKILL);
}

/// The first thread if it can, else the others in turn.
fn choose<'a>(node: &'a Node, shared: &mut ProcessSignals, signo: i32) -> Option<&'a Task> {
    let threads = &node.threads;
    if wants(threads.first()?, signo) {
        return Some(&threads[0]);
    }
    let index = (1..=threads.len()).map(|n| (shared.turn + n) % threads.len()).find(|&n| wants(&threads[n], signo))?;
    shared.turn = index;
    Some(&threads[index])
}

/// Whether a thread would take this signal soon: one that sleeps with another signal pending is on its way to that one.
fn wants(task: &Task, signo: i32) -> bool {
    let signals = task.signals.lock();
    if signals.blocked.contains(signo) || signals.exiting {
        return false;
    }
    let stopped = signals.stop.stopped || signals.trap.stopped;
    signo == SIGKILL || !stopped && (task.work.running_on().is_some() || !task.signal_pending())
}

/// Makes one thread of a process end: another one is in exec, or in exit_group.
pub fn kill_thread(task: &Task) {
    let _shared = task.process.signals.lock();
    kill(task);
}

fn kill(task: &Task) {
    let mut signals = task.signals.lock();
    if signals.exiting {
        return;
    }
    signals.stop.clear();
    signals.trap.stop = false;
    signals.trap.notify = false;
    signals.end_trapping(&task.trace.trapped);
    signals.pending.add_lost(SIGKILL);
    drop(signals);
    wake_up(task, true);
}

/// Makes a task look at its signals: now if it runs on another CPU, or if it sleeps and may be interrupted. `kill` ends
/// other sleeps, too.
#[inline]
pub(super) fn wake_up(task: &Task, kill: bool) {
    raise(task);
    if !kill {
        scheduler::wake_state(task, INTERRUPTIBLE);
        return;
    }
    let mut signals = task.signals.lock();
    signals.stop.stopped = false;
    let mut states = INTERRUPTIBLE | KILLABLE | STOPPED;
    // While a tracer looks at its registers they hold still: it is woken when the request is done.
    if !signals.trap.frozen {
        signals.trap.stopped = false;
        states |= TRACED;
    }
    scheduler::wake_state(task, states);
}

/// Raises the flag, and sends the interrupt that is owed.
#[inline]
pub(crate) fn raise(task: &Task) {
    task.raise(ExitWork::SIGPENDING);
}

/// Sends the current task a signal that it caused. If it is blocked or ignored, it becomes fatal.
pub fn force(info: SigInfo) {
    force_with(info, false);
}

/// As [`force`], but always fatal: the task cannot go on.
pub fn force_fatal(info: SigInfo) {
    force_with(info, true);
}

/// As [`force_fatal`], and no tracer sees it: the task ends with this signal and nothing can change that.
#[allow(dead_code, reason = "for seccomp, which kills so")]
pub fn force_exit(info: SigInfo) {
    current().signals.lock().immutable.insert(info.signo);
    force_with(info, true);
}

fn force_with(info: SigInfo, fatal: bool) {
    let task = current();
    let signo = info.signo;
    let shared = task.process.signals.lock();
    let mut signals = task.signals.lock();
    {
        let mut actions = task.sighand.lock();
        let blocked = signals.blocked.contains(signo);
        if blocked || fatal || actions[signo].handler == SIG_IGN {
            actions[signo].handler = SIG_DFL;
            signals.blocked.remove(signo);
        }
        if actions[signo].handler == SIG_DFL {
            // Not even a namespace's init lives through its own faults.
            task.process.unkillable.store(false, Relaxed);
        }
    }
    // Pending already: nothing to add. It is delivered before the task goes back to user mode, blocked no more.
    let _ = signals.pending.push(info, &shared.user, || u64::MAX);
    signals.recalculate(task, &shared);
}

/// A thread is to look at the group stop that has begun, or ended.
pub(super) fn tell_of_stop(thread: &Task) {
    if !thread.trace.is_seized() {
        wake_up(thread, false);
    } else if let Some(states) = group_stop_changed(thread) {
        raise(thread);
        scheduler::wake_state(thread, states);
    }
}

/// A seized task's group stop has begun or ended: it is to report that. Its signals are locked; the caller wakes it
/// afterwards if this says so, in the states that it says.
fn group_stop_changed(task: &Task) -> Option<u32> {
    let mut signals = task.signals.lock();
    if !signals.may_trap() {
        return None;
    }
    signals.trap.notify = true;
    let mut states = state::INTERRUPTIBLE;
    if signals.trap.listening {
        signals.trap.stopped = false;
        states |= TRACED;
    }
    Some(states)
}

/// Tells the parent of a process that it stopped (CLD_STOPPED) or went on (CLD_CONTINUED).
pub(crate) fn notify_parent(tree: &Tree, node: &Node, code: i32) {
    let Some(parent) = tree.node(node.parent) else {
        return;
    };
    let status = if code == CLD_CONTINUED { SIGCONT } else { node.process.signals.lock().stop_signal };
    if let Some(action) = action_of(parent, SIGCHLD)
        && action.handler != SIG_IGN
        && !action.flags().contains(ActionFlags::NOCLDSTOP)
    {
        let used = Usage::default();
        used.add(&node.process.usage);
        node.threads.iter().for_each(|thread| used.add(&thread.usage));
        let info = child_info::child_change(SIGCHLD, &node.process, code, status, &used);
        // A standard signal is never refused.
        let _ = send(tree, &parent.process, None, info);
    }
    parent.process.children_changed.wake_all();
}

/// Tells a tracer that its tracee has stopped (CLD_TRAPPED, or CLD_STOPPED with its group), or that the tracee's group goes
/// on (CLD_CONTINUED). `stop` is what the stop is about.
#[inline]
pub(crate) fn notify_tracer(tree: &Tree, tracer: &Task, tracee: &Task, code: i32, stop: i32) {
    if let Some(hand) = tracer.sighand.share() {
        let action = hand.get(SIGCHLD);
        let wanted = action.handler != SIG_IGN && !action.flags().contains(ActionFlags::NOCLDSTOP);
        if wanted {
            let status = match code {
                CLD_CONTINUED => SIGCONT,
                CLD_STOPPED => tracee.process.signals.lock().stop_signal & 0x7f,
                _ => stop & 0x7f,
            };
            let info = child_info::thread_change(SIGCHLD, tracee.tid(), &tracee.process, code, status, &tracee.usage);
            // A standard signal is never refused.
            let _ = send(tree, &tracer.process, None, info);
        }
    }
    tracer.process.children_changed.wake_all();
}

fn action_of(node: &Node, signo: i32) -> Option<Action> {
    Some(node.threads.first()?.sighand.share()?.get(signo))
}

/// Whether a process is meant by `kill(-1)`: not the reaper, not the sender, and of its namespace but for init.
pub fn is_other(node: &Node) -> bool {
    numbers::seen(node.process.pid) > REAPER && node.process.pid != current().process.pid
}
