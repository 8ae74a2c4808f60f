//! What comes with a signal about a child: it has ended, stopped or gone on.

use crate::sched::usage::Usage;
use crate::task::Task;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::signals::info::{SigInfo, pair};
use crate::task::wait_status::WaitStatus;

/// A child ended. `signo` is its exit signal, mostly SIGCHLD.
pub fn child(signo: i32, child: &Process, status: WaitStatus) -> SigInfo {
    let (code, value) = SigInfo::end(status);
    child_change(signo, child, code, value, &child.usage)
}

/// A child changed state: `value` is its exit code or a signal, as `code` says.
pub fn child_change(signo: i32, child: &Process, code: i32, value: i32, used: &Usage) -> SigInfo {
    thread_change(signo, child.pid, child, code, value, used)
}

/// A traced thread ended.
pub fn thread_end(signo: i32, thread: &Task, status: WaitStatus) -> SigInfo {
    let (code, value) = SigInfo::end(status);
    thread_change(signo, thread.tid(), &thread.process, code, value, &thread.usage)
}

/// [`child_change`] with the id of one of its threads.
pub fn thread_change(signo: i32, pid: Pid, child: &Process, code: i32, value: i32, used: &Usage) -> SigInfo {
    /// Nanoseconds per tick of `clock_t`.
    const TICK: u64 = 10_000_000;
    let times = used.times();
    let uid = child.credentials.lock().user.real;
    let fields = [pair(pid as u32, uid), value as u32 as u64, times.utime / TICK, times.stime / TICK];
    SigInfo::new(signo, code, fields)
}
