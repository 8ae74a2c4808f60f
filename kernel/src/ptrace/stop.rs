//! The tracee's side: it stops, and its tracer is told.
//!
//! All of this runs in the tracee. The stop itself is [`sleep`]; the rest says what it is about.

use portcullis::{InKernel, Skip};

use crate::machine::gate::Gate;
use crate::sched::lent::lend;
use crate::sched::scheduler;
use crate::sched::state::TRACED;
use crate::signal;
use crate::signal::{SIGTRAP, SigInfo};
use crate::task::pid::Pid;
use crate::task::pid::numbers::seen;
use crate::task::signals::info::{CLD_STOPPED, CLD_TRAPPED, SI_USER};
use crate::task::trace_state::{EVENT_STOP, Event, TRACESYSGOOD};
use crate::task::{Task, current, tree};

/// `PTRACE_GETEVENTMSG` at the entry of a system call.
pub const MESSAGE_ENTRY: u64 = 1;
/// And at its exit.
pub const MESSAGE_EXIT: u64 = 2;
/// In the code of a system-call stop with TRACESYSGOOD.
pub const SYSCALL_STOP: i32 = SIGTRAP | 0x80;

/// Stops the current task until its tracer lets it go on, and lends its registers meanwhile; gives the signal that the tracer
/// wants it to take, or 0.
///
/// Without a tracer, and when SIGKILL is pending, it does not stop and gives `code` back, as if the tracer had not changed
/// its mind. `why` is what a wait shows (CLD_TRAPPED, CLD_STOPPED), `info` what PTRACE_GETSIGINFO shows; the tracer may
/// have changed it, which is returned.
fn sleep(
    at: &mut InKernel<'_, Gate>,
    code: i32,
    why: i32,
    message: u64,
    info: Option<SigInfo>,
) -> (i32, Option<SigInfo>) {
    lend(at, || sleep_lent(code, why, message, info))
}

fn sleep_lent(code: i32, why: i32, message: u64, info: Option<SigInfo>) -> (i32, Option<SigInfo>) {
    let task = current();
    {
        let tree = tree::tree();
        let Some(node) = tree.node(task.process.pid) else {
            return (code, info);
        };
        let mut shared = task.process.signals.lock();
        let mut signals = task.signals.lock();
        let Some(tracer) = task.trace.tracer() else {
            return (code, info);
        };
        if signals.is_killed() {
            return (code, info);
        }
        signals.trap.code = code;
        signals.trap.message = message;
        signals.trap.info = info;
        // The last thread to stop completes the group stop.
        let complete =
            why == CLD_STOPPED && signals.stop.pending && signal::job::participate(&mut shared, &mut signals);
        signals.trap.stop = false;
        if info.is_some_and(|info| info.code >> 8 == EVENT_STOP) {
            signals.trap.notify = false;
        }
        signals.end_trapping(&task.trace.trapped);
        signals.trap.stopped = true;
        // Under the lock that the tracer takes before it wakes us.
        scheduler::set_state(TRACED);
        drop(signals);
        drop(shared);
        signal::send::notify_tracer(&tree, &tracer, task, why, code);
        if complete && node.parent != tracer.process.pid {
            signal::send::notify_parent(&tree, node, CLD_STOPPED);
        }
    }
    loop {
        scheduler::schedule();
        let signals = task.signals.lock();
        if !signals.trap.stopped {
            break;
        }
        scheduler::set_state(TRACED);
    }
    let shared = task.process.signals.lock();
    let mut signals = task.signals.lock();
    let trap = &mut signals.trap;
    let result = (core::mem::take(&mut trap.code), trap.info.take());
    trap.message = 0;
    trap.listening = false;
    trap.frozen = false;
    // What was sent meanwhile did not look whether we would see it.
    if signals.is_owed(&shared) {
        signal::send::raise(task);
    }
    result
}

/// Stops for something that is no signal; `code` is the signal that it looks like, with the event above it.
fn notify(at: &mut InKernel<'_, Gate>, code: i32, why: i32, message: u64) -> i32 {
    let info = stop_siginfo(code & 0x7f, code);
    sleep(at, code, why, message, Some(info)).0
}

/// The siginfo of a stop: sent by the task itself.
fn stop_siginfo(signo: i32, code: i32) -> SigInfo {
    let task = current();
    let uid = task.process.credentials.lock().user.real;
    SigInfo::user(signo, code, seen(task.tid()), uid)
}

/// Stops for a trap that is no event: a handler is entered by a step.
pub(super) fn trap(at: &mut InKernel<'_, Gate>) {
    notify(at, SIGTRAP, CLD_TRAPPED, 0);
}

/// The current task did something that its tracer asked to be told of. `message` is for PTRACE_GETEVENTMSG.
#[cold]
pub fn event(at: &mut InKernel<'_, Gate>, event: Event, message: u64) {
    let task = current();
    if task.trace.wants(event) {
        notify(at, (event as i32) << 8 | SIGTRAP, CLD_TRAPPED, message);
    } else if event == Event::Exec && task.trace.is_traced() && !task.trace.is_seized() {
        // How tracers were told before there were events.
        signal::send::to_current(SIGTRAP);
    }
}

/// At the entry of a system call. The call is not made if the task is killed.
#[cold]
pub fn report_entry(at: &mut InKernel<'_, Gate>) -> core::result::Result<(), Skip> {
    let task = current();
    report_syscall(at, task, MESSAGE_ENTRY);
    if task.signals.lock().is_killed() { Err(Skip) } else { Ok(()) }
}

/// At the exit of a system call.
#[cold]
pub fn report_exit(at: &mut InKernel<'_, Gate>) {
    report_syscall(at, current(), MESSAGE_EXIT);
}

fn report_syscall(at: &mut InKernel<'_, Gate>, task: &Task, message: u64) {
    if !task.trace.is_traced() {
        return;
    }
    let good = task.trace.options() & TRACESYSGOOD != 0;
    let signo = notify(at, if good { SYSCALL_STOP } else { SIGTRAP }, CLD_TRAPPED, message);
    if signal::is_valid(signo) {
        // What the tracer goes on with is sent.
        let _ = signal::send::to_task(task, SigInfo::kernel(signo));
    }
}

/// A signal is about to be delivered: the tracer may take it, change it, or put another one in its place. None if there
/// is nothing left to deliver. `shared`: it was sent to the process.
pub fn signal(at: &mut InKernel<'_, Gate>, info: SigInfo, shared: bool) -> Option<SigInfo> {
    let task = current();
    // Should it become a stop signal, that is one that was taken.
    task.signals.lock().stop.dequeued = true;
    let (signo, after) = sleep(at, info.signo, CLD_TRAPPED, 0, Some(info));
    if signo == 0 {
        return None;
    }
    let info = match after {
        Some(info) if info.signo == signo => info,
        _ => {
            let (pid, uid) = tracer_identity(task);
            SigInfo::user(signo, SI_USER, pid, uid)
        }
    };
    let put_back = {
        let signals = task.signals.lock();
        signals.blocked().contains(signo) || signals.is_killed()
    };
    if put_back {
        let target = if shared { None } else { Some(task) };
        signal::send::put_back(task, target, info);
        return None;
    }
    Some(info)
}

fn tracer_identity(task: &Task) -> (Pid, u32) {
    match task.trace.tracer() {
        Some(tracer) => (seen(tracer.tid()), tracer.process.credentials.lock().user.real),
        None => (seen(task.process.ppid()), 0),
    }
}

/// The task was told to stop for its tracer: by PTRACE_INTERRUPT, or with its group. Called while that is pending.
pub fn jobctl(at: &mut InKernel<'_, Gate>) {
    let task = current();
    let (signo, in_group_stop) = {
        let shared = task.process.signals.lock();
        let signals = task.signals.lock();
        (signals.stop.signo, shared.stop_count != 0 || shared.is_stopped())
    };
    if task.trace.is_seized() {
        let signo = if in_group_stop { signo } else { SIGTRAP };
        notify(at, EVENT_STOP << 8 | signo, CLD_STOPPED, 0);
    } else {
        sleep(at, signo, CLD_STOPPED, 0, None);
    }
}
