//! POSIX timers: timer_create and its kin.
//!
//! A timer of a wall clock waits in the machine's queue of deadlines. One of a CPU clock is looked at by the ticks of the
//! process whose time it counts ([`Timers::watch`](crate::task::timers::Timers::watch)). Either way its signal is queued once; a
//! repeating timer stands still until that is taken, then counts what it has missed and goes on ([`dequeued`]), so the count is
//! right at that moment.

use alloc::sync::{Arc, Weak};
use core::ptr;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::sched::timer::SLICE;
use crate::signal;
use crate::task::clock::{Clock, CpuClock, CpuTime, Timespec};
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::is_valid;
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

/// `struct itimerspec`.
#[derive(Clone, Copy, Default)]
struct Itimerspec {
    period: Timespec,
    value: Timespec,
}

impl Itimerspec {
    /// Its second member lies two words after the first.
    fn value_at(width: Width, address: u64) -> u64 {
        address.wrapping_add(2 * width.word() as u64)
    }

    fn read(width: Width, address: u64) -> Result<Itimerspec> {
        Ok(Itimerspec {
            period: Timespec::read(width, address)?,
            value: Timespec::read(width, Self::value_at(width, address))?,
        })
    }

    fn write(self, width: Width, address: u64) -> Result<()> {
        self.period.write(width, address)?;
        self.value.write(width, Self::value_at(width, address))
    }
}

/// `struct sigevent`, as far as it is used.
struct Sigevent {
    value: u64,
    signal: i32,
    notify: i32,
    thread: i32,
}

impl Sigevent {
    /// The value, a pointer's width, then three ints.
    fn read(address: u64) -> Result<Sigevent> {
        let [value] = c_long::read_unsigned(address)?;
        let [signal, notify, thread] = user::read(address.wrapping_add(Width::of_call().word() as u64))?;
        Ok(Sigevent { value, signal, notify, thread })
    }
}

/// timer_create(2).
pub fn sys_timer_create(clock: u64, event: u64, address: u64) -> Result<usize> {
    let process = &current().process;
    let event = if event == 0 { None } else { Some(Sigevent::read(event)?) };
    let clock = Clock::to_wait_for(clock)?;
    let limit = process.rlimit(RLIMIT_SIGPENDING).0;
    let charge = process.signals.lock().user.charge_within(limit);
    let charge = charge.ok_or(Errno::EAGAIN)?;
    let timers = &process.timers.posix;
    let id = timers.next_id.fetch_add(1, Relaxed) & i32::MAX;
    let (signal, value, thread) = match event {
        None => (SIGALRM as i32, id as u64, None),
        Some(event) => {
            let thread = match event.notify as u32 {
                SIGEV_THREAD_ID => Some(
                    tree::find_task(meant(event.thread))
                        .filter(|thread| core::ptr::eq(&*thread.process, &**process))
                        .ok_or(Errno::EINVAL)?,
                ),
                // A library that starts threads is told by a signal, too.
                SIGEV_NONE | SIGEV_SIGNAL | SIGEV_THREAD => None,
                _ => return Err(Errno::EINVAL),
            };
            if event.notify as u32 == SIGEV_NONE {
                (0, event.value, thread)
            } else if is_valid(event.signal) {
                (event.signal, event.value, thread)
            } else {
                return Err(Errno::EINVAL);
            }
        }
    };
    user::write(address, &id)?;
    let source = source_of(clock)?;
    let mut list = timers.list.lock();
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
    Ok(0)
}

fn with_timer<T>(id: u64, f: impl FnOnce(&mut Timer) -> T) -> Result<T> {
    let mut timers = current().process.timers.posix.list.lock();
    timers.iter_mut().find(|timer| timer.id == id as i32).map(f).ok_or(Errno::EINVAL)
}

/// timer_settime(2).
pub fn sys_timer_settime(id: u64, flags: u64, new: u64, old: u64) -> Result<usize> {
    timer_settime(Width::Bits64, id, flags, new, old)
}

/// timer_settime(2) with `itimerspec`s of this width.
pub fn timer_settime(width: Width, id: u64, flags: u64, new: u64, old: u64) -> Result<usize> {
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let new = Itimerspec::read(width, new)?;
    let (period, value) = (new.period.to_ns()?, new.value.to_ns()?);
    let absolute = flags as u32 & TIMER_ABSTIME != 0;
    let source = with_timer(id, |timer| timer.source.clone())?;
    let deadline = match &source {
        _ if value == 0 => 0,
        Source::Wall { realtime: true } if absolute => Clock::Realtime.deadline(value)?.max(1),
        Source::Wall { realtime: false } if absolute => Clock::Monotonic.deadline(value)?.max(1),
        _ if absolute => value,
        _ => source.now(None).ok_or(Errno::ESRCH)?.saturating_add(value),
    };
    let process = &current().process;
    let (left, old_period) = with_timer(id, |timer| {
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
        counted.watch(process.pid, id as i32);
        // The time may have come already.
        check(process.pid, id as i32, None);
    }
    if old != 0 {
        Itimerspec { period: Timespec::from_ns(old_period), value: Timespec::from_ns(left) }.write(width, old)?;
    }
    Ok(0)
}

/// timer_gettime(2).
pub fn sys_timer_gettime(id: u64, address: u64) -> Result<usize> {
    timer_gettime(Width::Bits64, id, address)
}

/// timer_gettime(2) with an `itimerspec` of this width.
pub fn timer_gettime(width: Width, id: u64, address: u64) -> Result<usize> {
    let (left, period) = with_timer(id, Timer::left)?;
    Itimerspec { period: Timespec::from_ns(period), value: Timespec::from_ns(left) }.write(width, address)?;
    Ok(0)
}

/// timer_getoverrun(2).
pub fn sys_timer_getoverrun(id: u64) -> Result<usize> {
    with_timer(id, |timer| count(timer.last_overrun) as usize)
}

/// timer_delete(2). A signal that is pending stays so.
pub fn sys_timer_delete(id: u64) -> Result<usize> {
    let mut timers = current().process.timers.posix.list.lock();
    let at = timers.iter().position(|timer| timer.id == id as i32).ok_or(Errno::EINVAL)?;
    let mut timer = timers.swap_remove(at);
    drop(timers);
    timer.stop();
    Ok(0)
}

#[cfg(test)]
mod tests;
