//! POSIX timers.
//!
//! A timer of a wall clock waits in the machine's queue of deadlines. One of a CPU clock is looked at by the ticks of the
//! process whose time it counts ([`Timers::watch`](crate::task::timers::Timers::watch)). Either way its signal is queued once; a
//! repeating timer stands still until that is taken, then counts what it has missed and goes on ([`dequeued`]), so the count is
//! right at that moment.

use alloc::sync::{Arc, Weak};
use core::ptr;

use crate::errno::{Errno, Result};
use crate::sched::timer::SLICE;
use crate::signal;
use crate::task::clock::{Clock, CpuClock, CpuTime};
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::signals::quota::Charge;
use crate::task::timers::posix::{CpuTimeSource, Sample, Source, Timer};
use crate::task::{Task, current, tree};

/// As timer_getoverrun and `si_overrun` say it (DELAYTIMER_MAX).
fn count(overrun: i64) -> i32 {
    overrun.clamp(0, i64::from(i32::MAX)) as i32
}

/// Waits for the deadline, if that is a wall clock's.
fn start(timer: &mut Timer, pid: Pid) {
    if !timer.source.is_cpu() && timer.signal != 0 && timer.deadline != 0 {
        timer.waits = Some(crate::sched::timer::add_timer(timer.deadline, ran_out, pid as usize, timer.id as usize));
    }
}

/// A deadline of a wall clock has come.
fn ran_out(pid: usize, id: usize) {
    check(pid as Pid, id as i32, None);
}

/// Sends the timer's signal if it has run out. By ids: process and timer may be gone. `sample`: a process, and its CPU time
/// now. Returns whether it is still set. From any context.
pub(super) fn check(pid: Pid, id: i32, sample: Option<Sample>) -> bool {
    let Some(process) = tree::find(pid) else {
        return false;
    };
    let (info, thread, setting, repeats) = {
        let mut list = process.timers.posix.list.lock();
        let Some(timer) = list.iter_mut().find(|timer| timer.id == id) else {
            return false;
        };
        match timer.source.now(sample) {
            _ if timer.deadline == 0 => return false,
            // Nothing counts any more.
            None => {
                timer.stop();
                return false;
            }
            Some(now) if timer.deadline > now || timer.fired || timer.signal == 0 => return true,
            Some(_) => {}
        }
        let repeats = timer.period != 0;
        if repeats {
            timer.fired = true;
        } else {
            timer.deadline = 0;
        }
        let info = SigInfo::timer(timer.signal, timer.id, 0, timer.value);
        (info, timer.thread, timer.setting, repeats)
    };
    // A thread that has ended takes its timers' signals with it.
    let target = tree::find_task(thread).filter(|task| core::ptr::eq(&*task.process, &*process));
    let sent = (thread == 0 || target.is_some()) && signal::send::timer(&process, target.as_deref(), info, setting);
    if repeats && !sent {
        go_on_unheard(&process, id, setting);
    }
    repeats
}

/// Whether a timer is set.
pub(super) fn is_set(pid: Pid, id: i32) -> bool {
    tree::find(pid).is_some_and(|process| {
        let list = process.timers.posix.list.lock();
        list.iter().any(|timer| timer.id == id && timer.deadline != 0)
    })
}

/// The signal is ignored, so nobody will take it: the timer goes on by itself. No faster than a tick, so that it does not
/// keep the machine busy.
fn go_on_unheard(process: &Process, id: i32, setting: u32) {
    let mut list = process.timers.posix.list.lock();
    let timer = list.iter_mut().find(|timer| timer.id == id && timer.setting == setting && timer.fired);
    let Some(timer) = timer else { return };
    let Some(now) = timer.source.now(None) else {
        return;
    };
    let until = if timer.period < SLICE { now.saturating_add(SLICE) } else { now };
    timer.fired = false;
    timer.overrun = timer.overrun.saturating_add(timer.forward(until));
    start(timer, process.pid);
}

/// The current process has taken a timer's signal: the timer goes on, unless it was set anew. Returns the information with
/// how often the timer ran out meanwhile. No lock is held.
#[cold]
pub fn dequeued(info: SigInfo, setting: u32) -> SigInfo {
    let process = &current().process;
    let mut list = process.timers.posix.list.lock();
    let timer =
        list.iter_mut().find(|timer| Some(timer.id) == info.timer_id() && timer.setting == setting && timer.fired);
    let Some(timer) = timer else { return info };
    timer.fired = false;
    if let Some(now) = timer.source.now(None) {
        timer.last_overrun = timer.overrun.saturating_add(timer.forward(now));
        timer.overrun = -1;
        start(timer, process.pid);
    }
    info.with_overrun(count(timer.last_overrun.saturating_add(i64::from(info.overrun()))))
}

/// The CPU time of a process, or of one of its threads, as long as that lives.
struct Counted {
    process: Weak<Process>,
    thread: Option<Weak<Task>>,
    time: CpuTime,
}

impl Counted {
    fn clock(&self) -> Option<CpuClock> {
        Some(CpuClock {
            process: self.process.upgrade()?,
            thread: match &self.thread {
                None => None,
                Some(thread) => Some(thread.upgrade()?),
            },
            time: self.time,
        })
    }
}

impl CpuTimeSource for Counted {
    fn now(&self, sample: Option<Sample>) -> Option<u64> {
        match sample {
            Some(sample)
                if self.thread.is_none()
                    && self.time == CpuTime::All
                    && ptr::addr_eq(self.process.as_ptr(), sample.process) =>
            {
                Some(sample.total)
            }
            _ => self.clock().map(|clock| clock.now()),
        }
    }

    fn watch(&self, owner: Pid, id: i32) {
        if let Some(process) = self.process.upgrade() {
            process.timers.watch(owner, id);
        }
    }
}

fn source_of(clock: Clock) -> Result<Source> {
    Ok(match clock.cpu(false)? {
        None => Source::Wall { realtime: clock == Clock::Realtime },
        Some(CpuClock { process, thread, time }) => Source::Cpu(Arc::new(Counted {
            process: Arc::downgrade(&process),
            thread: thread.as_ref().map(Arc::downgrade),
            time,
        })),
    })
}

/// A timer that is to be made.
pub struct NewTimer {
    pub id: i32,
    pub clock: Clock,
    /// The signal that tells of an expiration; 0 for none.
    pub signal: i32,
    /// What comes with the signal.
    pub value: u64,
    /// The thread that gets it; None for any of the process.
    pub thread: Option<Arc<Task>>,
    /// A place in the quota of pending signals.
    pub charge: Charge,
}

/// Adds a timer, which is not set, to the current process.
pub fn add(new: NewTimer) -> Result<()> {
    let process = &current().process;
    let NewTimer { id, clock, signal, value, thread, charge } = new;
    let source = source_of(clock)?;
    let mut list = process.timers.posix.list.lock();
    list.push(Timer {
        id,
        source,
        signal,
        value,
        thread: thread.as_ref().map_or(0, |thread| thread.tid()),
        deadline: 0,
        period: 0,
        waits: None,
        fired: false,
        setting: 0,
        overrun: -1,
        last_overrun: 0,
        _charge: charge,
    });
    let number = list.len();
    drop(list);
    signal::send::reserve(process, thread.as_deref(), number);
    Ok(())
}

/// Calls `f` with a timer of the current process; EINVAL if there is none with this id.
fn with_timer<T>(id: i32, f: impl FnOnce(&mut Timer) -> T) -> Result<T> {
    let mut timers = current().process.timers.posix.list.lock();
    timers.iter_mut().find(|timer| timer.id == id).map(f).ok_or(Errno::EINVAL)
}

/// Sets a timer; times are in nanoseconds, and `value` is one of its clock if `absolute`. Returns the time that was left
/// and the old period.
pub fn set(id: i32, absolute: bool, value: u64, period: u64) -> Result<(u64, u64)> {
    let source = with_timer(id, |timer| timer.source.clone())?;
    let deadline = match &source {
        _ if value == 0 => 0,
        Source::Wall { realtime: true } if absolute => Clock::Realtime.deadline(value)?.max(1),
        Source::Wall { realtime: false } if absolute => Clock::Monotonic.deadline(value)?.max(1),
        _ if absolute => value,
        _ => source.now(None).ok_or(Errno::ESRCH)?.saturating_add(value),
    };
    let process = &current().process;
    let old = with_timer(id, |timer| {
        let old = timer.left();
        timer.stop();
        timer.setting = timer.setting.wrapping_add(1);
        timer.overrun = -1;
        timer.last_overrun = 0;
        timer.deadline = deadline;
        timer.period = if deadline == 0 { 0 } else { period };
        start(timer, process.pid);
        old
    })?;
    if let Source::Cpu(counted) = &source
        && deadline != 0
    {
        counted.watch(process.pid, id);
        // The time may have come already.
        check(process.pid, id, None);
    }
    Ok(old)
}

/// The time left and the period.
pub fn left(id: i32) -> Result<(u64, u64)> {
    with_timer(id, Timer::left)
}

/// How often the timer expired between its last signal and the time that one was taken.
pub fn overrun(id: i32) -> Result<i32> {
    with_timer(id, |timer| count(timer.last_overrun))
}

/// Removes a timer. A signal that is pending stays so.
pub fn delete(id: i32) -> Result<()> {
    let mut timers = current().process.timers.posix.list.lock();
    let at = timers.iter().position(|timer| timer.id == id).ok_or(Errno::EINVAL)?;
    let mut timer = timers.swap_remove(at);
    drop(timers);
    timer.stop();
    Ok(())
}

#[cfg(test)]
mod tests;
