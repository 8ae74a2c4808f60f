//! Job control: stopping and continuing processes, telling parents, and what a background process may do with its
//! terminal.

use crate::errno::{Errno, Result};
use crate::sched::scheduler;
use crate::sched::state::STOPPED;
use crate::signal::send;
use crate::task::pid::Pid;
use crate::task::signals::action::SIG_IGN;
use crate::task::signals::info::*;
use crate::task::signals::set::*;
use crate::task::signals::state::{ProcessSignals, TaskSignals};
use crate::task::tree;
use crate::task::tree::Node;
use crate::task::{Task, current};

/// Stops the current thread: because it took a stop signal (`signo`), or because another thread did (0). Returns when it
/// is to look at its signals again. Returns at once if SIGCONT came meanwhile or the process is ending.
pub fn stop(signo: i32) {
    let task = current();
    {
        let tree = tree::tree();
        let Some(node) = tree.node(task.process.pid) else {
            return;
        };
        let mut shared = task.process.signals.lock();
        if !task.signals.lock().stop.pending && !begin_stop(node, &mut shared, task, signo) {
            return;
        }
        if task.trace.is_traced() {
            // It stops for its tracer instead: the caller looks again, and finds that.
            let mut signals = task.signals.lock();
            signals.trap.stop = signals.may_trap();
            return;
        }
        let last = participate(&mut shared, &mut task.signals.lock());
        task.signals.lock().stop.stopped = true;
        // Under the lock that SIGCONT takes before it wakes us.
        scheduler::set_state(STOPPED);
        drop(shared);
        if last {
            send::notify_parent(&tree, node, CLD_STOPPED);
        }
    }
    loop {
        scheduler::schedule();
        let signals = task.signals.lock();
        if !signals.stop.stopped {
            return;
        }
        scheduler::set_state(STOPPED);
    }
}

/// The first thread that takes a stop signal asks all others to stop, too. False if there is nothing to stop for any more.
fn begin_stop(node: &Node, shared: &mut ProcessSignals, task: &Task, signo: i32) -> bool {
    {
        let signals = task.signals.lock();
        let killed = signals.pending.set().contains(SIGKILL) || task.process.group_exit().is_some();
        if !signals.stop.dequeued || killed {
            return false;
        }
    }
    if !shared.stopped {
        shared.stop_signal = signo;
    }
    shared.stop_count = 0;
    for thread in &node.threads {
        let myself = core::ptr::eq(&**thread, task);
        let mut signals = thread.signals.lock();
        if !signals.may_trap() || !myself && signals.stop.stopped {
            continue;
        }
        signals.stop.pending = true;
        signals.stop.counts = true;
        signals.stop.signo = signo;
        shared.stop_count += 1;
        drop(signals);
        if !myself {
            send::tell_of_stop(thread);
        }
    }
    true
}

/// The thread stops, or ends while it should. Says whether it was the last that the process waited for.
pub(crate) fn participate(shared: &mut ProcessSignals, signals: &mut TaskSignals) -> bool {
    let counts = signals.stop.counts;
    signals.stop.clear();
    if !counts {
        return false;
    }
    shared.stop_count = shared.stop_count.saturating_sub(1);
    if shared.stop_count != 0 || shared.stopped {
        return false;
    }
    shared.stopped = true;
    shared.continued = false;
    true
}

/// For `exit`: the current thread takes no more signals. What is pending for the process goes to other threads; a stop
/// does not wait for it.
pub fn exit_thread() {
    let task = current();
    let tree = tree::tree();
    let Some(node) = tree.node(task.process.pid) else {
        return;
    };
    let mut shared = task.process.signals.lock();
    let (unblocked, last) = {
        let mut signals = task.signals.lock();
        signals.exiting = true;
        let last = signals.stop.pending && participate(&mut shared, &mut signals);
        (SigSet(!signals.blocked.0), last)
    };
    retarget(node, &shared, task, unblocked);
    drop(shared);
    if last {
        send::notify_parent(&tree, node, CLD_STOPPED);
    }
}

/// A thread no longer takes these signals: wakes others that do, if some are pending for the process.
pub(super) fn retarget(node: &Node, shared: &ProcessSignals, from: &Task, signals: SigSet) {
    let mut left = shared.pending.set().intersection(signals);
    for thread in &node.threads {
        if left.is_empty() {
            return;
        }
        if core::ptr::eq(&**thread, from) {
            continue;
        }
        let (exiting, blocked) = {
            let signals = thread.signals.lock();
            (signals.exiting, signals.blocked)
        };
        if exiting || left.without(blocked).is_empty() {
            continue;
        }
        left = left.intersection(blocked);
        if !thread.signal_pending() {
            send::wake_up(thread, false);
        }
    }
}

/// Whether the current process may read from (`signo` SIGTTIN) or change (SIGTTOU) its controlling terminal, whose
/// foreground group is `foreground` (0: none). If it is in the background its group is stopped, and the call comes back
/// with ERESTARTSYS; EIO where stopping would be for ever or, for reading, is not wanted.
pub fn check_terminal(foreground: Pid, signo: i32) -> Result<()> {
    let task = current();
    let group = task.process.pgrp();
    if foreground == 0 || group == foreground {
        return Ok(());
    }
    let unwanted = task.signals.lock().blocked.contains(signo) || task.sighand.get(signo).handler == SIG_IGN;
    if unwanted {
        return if signo == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if tree::is_orphaned(group) {
        return Err(Errno::EIO);
    }
    send::to_pgrp(group, SigInfo::kernel(signo))?;
    // Also if another thread takes the signal: this call is to come back.
    send::raise(task);
    Err(Errno::ERESTARTSYS)
}

#[cfg(test)]
mod tests;
