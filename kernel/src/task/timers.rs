//! Interval timers, alarm, POSIX timers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering::*};

use linux_raw_sys::general::*;

use super::clock::{Clock, SECOND, Timespec, Timeval};
use super::pid_namespace::meant;
use super::process::{self, Pid};
use super::{Process, Task, current, usage};
use crate::errno::{Errno, Result};
use crate::memory::{Width, longs, user};
use crate::signal::{self, SigInfo};
use crate::sync::SpinLock;
use crate::time::{self, TimerId};

/// A process's timers.
#[derive(Default)]
pub struct Timers {
    real: SpinLock<Interval>,
    /// ITIMER_VIRTUAL and ITIMER_PROF, and the CPU-time limit: looked at by the tick.
    cpu: SpinLock<[Interval; 2]>,
    cpu_armed: AtomicBool,
    posix: SpinLock<Vec<Posix>>,
    next_posix: AtomicI32,
}

/// A deadline, its repetition, and the timer that waits for it. Zero: not armed.
#[derive(Default)]
struct Interval {
    deadline: u64,
    period: u64,
    timer: Option<TimerId>,
}

struct Posix {
    id: i32,
    clock: Clock,
    signal: i32,
    value: u64,
    /// Thread to signal; 0 for the process.
    thread: Pid,
    interval: Interval,
    overrun: i32,
}

/// `struct itimerval`.
#[derive(Clone, Copy, Default)]
struct Itimerval {
    period: Timeval,
    value: Timeval,
}

impl Itimerval {
    /// As wide as the call's.
    fn read(address: u64) -> Result<Itimerval> {
        let [seconds, microseconds, value_seconds, value_microseconds] = longs::read(address)?;
        Ok(Itimerval {
            period: Timeval {
                seconds,
                microseconds,
            },
            value: Timeval {
                seconds: value_seconds,
                microseconds: value_microseconds,
            },
        })
    }

    fn write(self, address: u64) -> Result<()> {
        let (period, value) = (self.period, self.value);
        longs::write(
            address,
            [
                period.seconds,
                period.microseconds,
                value.seconds,
                value.microseconds,
            ],
        )
    }
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

impl Interval {
    /// What is left at `now`, at least a nanosecond if armed; and the period.
    fn left(&self, now: u64) -> (u64, u64) {
        let left = if self.deadline == 0 {
            0
        } else {
            self.deadline.saturating_sub(now).max(1)
        };
        (left, self.period)
    }

    /// Goes on after `now`. Returns how many deadlines were missed besides the first.
    fn advance(&mut self, now: u64) -> u64 {
        if self.period == 0 {
            self.deadline = 0;
            return 0;
        }
        let missed = now.saturating_sub(self.deadline) / self.period;
        self.deadline += (missed + 1) * self.period;
        missed
    }

    fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            time::cancel_timer(timer);
        }
        self.deadline = 0;
        self.period = 0;
    }
}

impl Timers {
    /// The process ends.
    pub(super) fn stop_all(&self) {
        self.real.lock().stop();
        self.cpu_armed.store(false, Relaxed);
        self.stop_posix();
    }

    /// exec deletes POSIX timers.
    pub(super) fn stop_posix(&self) {
        let mut timers = core::mem::take(&mut *self.posix.lock());
        timers.iter_mut().for_each(|timer| timer.interval.stop());
    }
}

/// ITIMER_REAL has run out. By PID and not by address: the process may be gone.
fn real_expired(pid: usize, _: usize) {
    let Some(process) = process::find(pid as Pid) else {
        return;
    };
    {
        let mut real = process.timers.real.lock();
        real.timer = None;
        if real.deadline == 0 || real.deadline > time::now() {
            // Set anew while this was on its way.
            return;
        }
        real.advance(time::now());
        if real.deadline != 0 {
            real.timer = Some(time::add_timer(real.deadline, real_expired, pid, 0));
        }
    }
    // A standard signal is never refused.
    let _ = signal::send::to_process(&process, SigInfo::kernel(SIGALRM as i32));
}

/// Sets ITIMER_REAL; returns what was left and the old period.
fn set_real(process: &Process, value: u64, period: u64) -> (u64, u64) {
    let mut real = process.timers.real.lock();
    let old = real.left(time::now());
    real.stop();
    if value != 0 {
        real.deadline = time::now().saturating_add(value);
        real.period = period;
        real.timer = Some(time::add_timer(
            real.deadline,
            real_expired,
            process.pid as usize,
            0,
        ));
    }
    old
}

/// What ITIMER_VIRTUAL (0) and ITIMER_PROF (1) count.
fn cpu_time(process: &Process, which: usize) -> u64 {
    let times = usage::of_process(process).times();
    if which == 0 {
        times.user
    } else {
        times.user + times.system
    }
}

fn set_cpu(process: &Process, which: usize, value: u64, period: u64) -> (u64, u64) {
    let now = cpu_time(process, which);
    let mut cpu = process.timers.cpu.lock();
    let old = cpu[which].left(now);
    cpu[which] = Interval::default();
    if value != 0 {
        cpu[which] = Interval {
            deadline: now + value,
            period,
            timer: None,
        };
    }
    let armed = cpu.iter().any(|interval| interval.deadline != 0);
    process.timers.cpu_armed.store(armed, Relaxed);
    old
}

/// The scheduler's tick: CPU-time timers and RLIMIT_CPU. Interrupt context.
pub(super) fn tick(task: &Task, _from_user: bool) {
    let process = &task.process;
    if process.timers.cpu_armed.load(Relaxed) {
        for (which, signo) in [(0, SIGVTALRM), (1, SIGPROF)] {
            let now = cpu_time(process, which);
            let expired = {
                let interval = &mut process.timers.cpu.lock()[which];
                let expired = interval.deadline != 0 && interval.deadline <= now;
                if expired {
                    interval.advance(now);
                }
                expired
            };
            if expired {
                let _ = signal::send::to_process(process, SigInfo::kernel(signo as i32));
            }
        }
    }
    if let Some(signo) = process
        .limits
        .lock()
        .cpu_exceeded(|| usage::of_process(process).total() / SECOND)
    {
        let _ = signal::send::to_process(process, SigInfo::kernel(signo as i32));
    }
}

/// getitimer(2).
pub fn sys_getitimer(which: u64, address: u64) -> Result<usize> {
    let process = &current().process;
    let (left, period) = match which as u32 {
        ITIMER_REAL => process.timers.real.lock().left(time::now()),
        which @ (ITIMER_VIRTUAL | ITIMER_PROF) => {
            let which = which as usize - 1;
            let now = cpu_time(process, which);
            process.timers.cpu.lock()[which].left(now)
        }
        _ => return Err(Errno::EINVAL),
    };
    Itimerval {
        period: Timeval::from_ns(period),
        value: Timeval::from_ns(left),
    }
    .write(address)?;
    Ok(0)
}

/// setitimer(2).
pub fn sys_setitimer(which: u64, new: u64, old: u64) -> Result<usize> {
    let process = &current().process;
    let new = if new == 0 {
        Itimerval::default()
    } else {
        Itimerval::read(new)?
    };
    let (value, period) = (new.value.to_ns()?, new.period.to_ns()?);
    let (left, old_period) = match which as u32 {
        ITIMER_REAL => set_real(process, value, period),
        which @ (ITIMER_VIRTUAL | ITIMER_PROF) => set_cpu(process, which as usize - 1, value, period),
        _ => return Err(Errno::EINVAL),
    };
    if old != 0 {
        Itimerval {
            period: Timeval::from_ns(old_period),
            value: Timeval::from_ns(left),
        }
        .write(old)?;
    }
    Ok(0)
}

/// alarm(2).
pub fn sys_alarm(seconds: u64) -> Result<usize> {
    let (left, _) = set_real(&current().process, u64::from(seconds as u32) * SECOND, 0);
    // Rounded, but an armed timer never counts as none.
    Ok((if left == 0 {
        0
    } else {
        ((left + SECOND / 2) / SECOND).max(1)
    }) as usize)
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
        let [value] = longs::read_unsigned(address)?;
        let [signal, notify, thread] = user::read(address.wrapping_add(Width::of_call().word() as u64))?;
        Ok(Sigevent {
            value,
            signal,
            notify,
            thread,
        })
    }
}

/// timer_create(2).
pub fn sys_timer_create(clock: u64, event: u64, id: u64) -> Result<usize> {
    let process = &current().process;
    let clock = Clock::new(clock)?;
    let next = process.timers.next_posix.fetch_add(1, Relaxed);
    let (signal, value, thread) = if event == 0 {
        (SIGALRM as i32, next as u64, 0)
    } else {
        let event = Sigevent::read(event)?;
        match event.notify as u32 {
            SIGEV_NONE => (0, event.value, 0),
            SIGEV_SIGNAL => (event.signal, event.value, 0),
            SIGEV_THREAD_ID => {
                let thread = process::find_task(meant(event.thread)).ok_or(Errno::EINVAL)?;
                if !Arc::ptr_eq(&thread.process, process) {
                    return Err(Errno::EINVAL);
                }
                (event.signal, event.value, thread.tid())
            }
            _ => return Err(Errno::EINVAL),
        }
    };
    let takes_signal = event == 0 || signal != 0;
    if takes_signal && !(1..=64).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    user::write(id, &next)?;
    let timer = Posix {
        id: next,
        clock,
        signal,
        value,
        thread,
        interval: Interval::default(),
        overrun: 0,
    };
    process.timers.posix.lock().push(timer);
    Ok(0)
}

fn with_timer<T>(id: u64, f: impl FnOnce(&mut Posix) -> T) -> Result<T> {
    let mut timers = current().process.timers.posix.lock();
    timers
        .iter_mut()
        .find(|timer| timer.id == id as i32)
        .map(f)
        .ok_or(Errno::EINVAL)
}

/// A POSIX timer has run out.
fn posix_expired(pid: usize, id: usize) {
    let Some(process) = process::find(pid as Pid) else {
        return;
    };
    let (info, thread) = {
        let mut timers = process.timers.posix.lock();
        let Some(timer) = timers.iter_mut().find(|timer| timer.id == id as i32) else {
            return;
        };
        timer.interval.timer = None;
        if timer.interval.deadline == 0 || timer.interval.deadline > time::now() {
            return;
        }
        timer.overrun = timer.interval.advance(time::now()).min(i32::MAX as u64) as i32;
        if timer.interval.deadline != 0 {
            timer.interval.timer = Some(time::add_timer(timer.interval.deadline, posix_expired, pid, id));
        }
        (
            SigInfo::timer(timer.signal, timer.id, timer.overrun, timer.value),
            timer.thread,
        )
    };
    if info.signo == 0 {
        return;
    }
    // A thread that has ended takes its timers' signals with it.
    let target = if thread == 0 {
        None
    } else {
        Some(process::find_task(thread))
    };
    match target {
        None => signal::send::timer(&process, None, info),
        Some(Some(task)) => signal::send::timer(&process, Some(&task), info),
        Some(None) => false,
    };
}

/// timer_settime(2).
pub fn sys_timer_settime(id: u64, flags: u64, new: u64, old: u64) -> Result<usize> {
    timer_settime(Width::Bits64, id, flags, new, old)
}

/// timer_settime(2) with `itimerspec`s of this width.
pub fn timer_settime(width: Width, id: u64, flags: u64, new: u64, old: u64) -> Result<usize> {
    let new = Itimerspec::read(width, new)?;
    let (value, period) = (new.value.to_ns()?, new.period.to_ns()?);
    let clock = with_timer(id, |timer| timer.clock)?;
    let deadline = match (value, flags as u32 & TIMER_ABSTIME) {
        (0, _) => 0,
        (value, 0) => time::now().saturating_add(value),
        (value, _) => clock.deadline(value)?.max(1),
    };
    let pid = current().process.pid as usize;
    let (left, old_period) = with_timer(id, |timer| {
        let old = timer.interval.left(time::now());
        timer.interval.stop();
        timer.overrun = 0;
        if deadline != 0 {
            let waits = time::add_timer(deadline, posix_expired, pid, timer.id as usize);
            timer.interval = Interval {
                deadline,
                period,
                timer: Some(waits),
            };
        }
        old
    })?;
    if old != 0 {
        Itimerspec {
            period: Timespec::from_ns(old_period),
            value: Timespec::from_ns(left),
        }
        .write(width, old)?;
    }
    Ok(0)
}

/// timer_gettime(2).
pub fn sys_timer_gettime(id: u64, address: u64) -> Result<usize> {
    timer_gettime(Width::Bits64, id, address)
}

/// timer_gettime(2) with an `itimerspec` of this width.
pub fn timer_gettime(width: Width, id: u64, address: u64) -> Result<usize> {
    let (left, period) = with_timer(id, |timer| timer.interval.left(time::now()))?;
    Itimerspec {
        period: Timespec::from_ns(period),
        value: Timespec::from_ns(left),
    }
    .write(width, address)?;
    Ok(0)
}

/// timer_getoverrun(2).
pub fn sys_timer_getoverrun(id: u64) -> Result<usize> {
    with_timer(id, |timer| timer.overrun as usize)
}

/// timer_delete(2).
pub fn sys_timer_delete(id: u64) -> Result<usize> {
    with_timer(id, |timer| timer.interval.stop())?;
    current()
        .process
        .timers
        .posix
        .lock()
        .retain(|timer| timer.id != id as i32);
    Ok(0)
}
