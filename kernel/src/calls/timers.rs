//! Timers that send signals: getitimer(2), setitimer(2), alarm(2), and POSIX timers (timer_create(2) and the like).
//!
//! The timers themselves are [`signal::interval_timers`](crate::signal::interval_timers) and
//! [`signal::posix_timers`](crate::signal::posix_timers).

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::signal::interval_timers::CpuTimer;
use crate::signal::posix_timers::NewTimer;
use crate::signal::{interval_timers, posix_timers};
use crate::task::clock::{Clock, SECOND, Timespec, Timeval};
use crate::task::pid::numbers::meant;
use crate::task::signals::set::is_valid;
use crate::task::{current, tree};

/// `struct itimerval`.
#[derive(Clone, Copy, Default)]
struct Itimerval {
    interval: Timeval,
    value: Timeval,
}

impl Itimerval {
    /// As wide as the call's.
    fn read(address: u64) -> Result<Itimerval> {
        let [seconds, microseconds, value_seconds, value_microseconds] = c_long::read(address)?;
        Ok(Itimerval {
            interval: Timeval { seconds, microseconds },
            value: Timeval { seconds: value_seconds, microseconds: value_microseconds },
        })
    }

    fn write(self, address: u64) -> Result<()> {
        let (interval, value) = (self.interval, self.value);
        c_long::write(address, [interval.seconds, interval.microseconds, value.seconds, value.microseconds])
    }
}

/// getitimer(2).
pub fn sys_getitimer(which: u64, address: u64) -> Result<usize> {
    let process = &current().process;
    let (left, period) = match which as u32 {
        ITIMER_REAL => interval_timers::real(process),
        ITIMER_VIRTUAL => interval_timers::cpu(process, CpuTimer::Virtual),
        ITIMER_PROF => interval_timers::cpu(process, CpuTimer::Prof),
        _ => return Err(Errno::EINVAL),
    };
    Itimerval { interval: Timeval::from_ns(period), value: Timeval::from_ns(left) }.write(address)?;
    Ok(0)
}

/// setitimer(2).
pub fn sys_setitimer(which: u64, new: u64, old: u64) -> Result<usize> {
    let process = &current().process;
    let new = if new == 0 { Itimerval::default() } else { Itimerval::read(new)? };
    let (value, period) = (new.value.to_ns()?, new.interval.to_ns()?);
    let (left, old_period) = match which as u32 {
        ITIMER_REAL => interval_timers::set_real(process, value, period),
        ITIMER_VIRTUAL => interval_timers::set_cpu(process, CpuTimer::Virtual, value, period),
        ITIMER_PROF => interval_timers::set_cpu(process, CpuTimer::Prof, value, period),
        _ => return Err(Errno::EINVAL),
    };
    if old != 0 {
        Itimerval { interval: Timeval::from_ns(old_period), value: Timeval::from_ns(left) }.write(old)?;
    }
    Ok(0)
}

/// alarm(2).
pub fn sys_alarm(seconds: u64) -> Result<usize> {
    let (left, _) = interval_timers::set_real(&current().process, u64::from(seconds as u32) * SECOND, 0);
    // Rounded, but an armed timer never counts as none.
    Ok((if left == 0 { 0 } else { ((left + SECOND / 2) / SECOND).max(1) }) as usize)
}

/// `struct itimerspec`.
#[derive(Clone, Copy)]
pub struct Itimerspec {
    interval: Timespec,
    value: Timespec,
}

impl Itimerspec {
    /// From times in nanoseconds.
    pub fn from_ns(interval: u64, value: u64) -> Itimerspec {
        Itimerspec { interval: Timespec::from_ns(interval), value: Timespec::from_ns(value) }
    }

    /// Interval and value in nanoseconds; EINVAL if one is no valid time.
    pub fn to_ns(self) -> Result<(u64, u64)> {
        Ok((self.interval.to_ns()?, self.value.to_ns()?))
    }

    /// Its second member lies two words after the first.
    fn value_at(width: Width, address: u64) -> u64 {
        address.wrapping_add(2 * width.word() as u64)
    }

    pub fn read(width: Width, address: u64) -> Result<Itimerspec> {
        Ok(Itimerspec {
            interval: Timespec::read(width, address)?,
            value: Timespec::read(width, Self::value_at(width, address))?,
        })
    }

    pub fn write(self, width: Width, address: u64) -> Result<()> {
        self.interval.write(width, address)?;
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
    let id = process.timers.posix.next_id.fetch_add(1, Relaxed) & i32::MAX;
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
    posix_timers::add(NewTimer { id, clock, signal, value, thread, charge })?;
    Ok(0)
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
    let (period, value) = Itimerspec::read(width, new)?.to_ns()?;
    let absolute = flags as u32 & TIMER_ABSTIME != 0;
    let (left, old_period) = posix_timers::set(id as i32, absolute, value, period)?;
    if old != 0 {
        Itimerspec::from_ns(old_period, left).write(width, old)?;
    }
    Ok(0)
}

/// timer_gettime(2).
pub fn sys_timer_gettime(id: u64, address: u64) -> Result<usize> {
    timer_gettime(Width::Bits64, id, address)
}

/// timer_gettime(2) with an `itimerspec` of this width.
pub fn timer_gettime(width: Width, id: u64, address: u64) -> Result<usize> {
    let (left, period) = posix_timers::left(id as i32)?;
    Itimerspec::from_ns(period, left).write(width, address)?;
    Ok(0)
}

/// timer_getoverrun(2).
pub fn sys_timer_getoverrun(id: u64) -> Result<usize> {
    Ok(posix_timers::overrun(id as i32)? as usize)
}

/// timer_delete(2). A signal that is pending stays so.
pub fn sys_timer_delete(id: u64) -> Result<usize> {
    posix_timers::delete(id as i32)?;
    Ok(0)
}
