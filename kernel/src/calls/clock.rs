//! Clocks and sleeping.

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::machine::{cpu, time};
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::sched::clock_watchers;
use crate::sched::wait::sleep_until;
use crate::task::clock::{Clock, CpuClock, MAX_NS, SECOND, Timespec, Timeval};
use crate::task::current;
use crate::task::restart::restart_block::set_restart_fn;

/// clock_gettime(2).
pub fn sys_clock_gettime(id: u64, address: u64) -> Result<usize> {
    clock_gettime(Width::Bits64, id, address)
}

/// clock_gettime(2) with a `timespec` of this width.
pub fn clock_gettime(width: Width, id: u64, address: u64) -> Result<usize> {
    Timespec::from_ns(Clock::new(id)?.now()?).write(width, address)?;
    Ok(0)
}

/// clock_settime(2).
pub fn sys_clock_settime(id: u64, address: u64) -> Result<usize> {
    clock_settime(Width::Bits64, id, address)
}

/// clock_settime(2) with a `timespec` of this width.
pub fn clock_settime(width: Width, id: u64, address: u64) -> Result<usize> {
    if id as u32 != CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    set_realtime(Timespec::read(width, address)?.to_ns()?)
}

/// Sets the time of day, which stays below [`MAX_NS`] for 30 years from then on, and not before the time of boot.
fn set_realtime(nanoseconds: u64) -> Result<usize> {
    const YEARS: u64 = 30 * 365 * 24 * 3600 * SECOND;
    if nanoseconds >= MAX_NS - YEARS || nanoseconds < time::now() {
        return Err(Errno::EINVAL);
    }
    clock_watchers::set_realtime(nanoseconds);
    Ok(0)
}

/// clock_getres(2).
pub fn sys_clock_getres(id: u64, address: u64) -> Result<usize> {
    clock_getres(Width::Bits64, id, address)
}

/// clock_getres(2) with a `timespec` of this width.
pub fn clock_getres(width: Width, id: u64, address: u64) -> Result<usize> {
    Clock::new(id)?.cpu(true)?;
    if address != 0 {
        Timespec::from_ns(1).write(width, address)?;
    }
    Ok(0)
}

/// gettimeofday(2).
pub fn sys_gettimeofday(address: u64, zone: u64) -> Result<usize> {
    if address != 0 {
        Timeval::from_ns(time::realtime()).write(address)?;
    }
    if zone != 0 {
        user::write(zone, &[0i32; 2])?;
    }
    Ok(0)
}

/// settimeofday(2).
pub fn sys_settimeofday(address: u64) -> Result<usize> {
    if address != 0 {
        set_realtime(Timeval::read(address)?.to_ns()?)?;
    }
    Ok(0)
}

/// time(2).
pub fn sys_time(address: u64) -> Result<usize> {
    let seconds = time::realtime() / SECOND;
    if address != 0 {
        c_long::write(address, [seconds as i64])?;
    }
    Ok(seconds as usize)
}

/// Sleeps until `deadline`; if a signal comes first, says how much was left and how to go on.
fn sleep_relative(width: Width, deadline: u64, remaining: u64) -> Result<usize> {
    match sleep_until(deadline) {
        Ok(()) => Ok(0),
        Err(_) => {
            if remaining != 0 {
                let left = deadline.saturating_sub(time::now());
                if left == 0 {
                    return Ok(0);
                }
                Timespec::from_ns(left).write(width, remaining)?;
            }
            let function: fn([u64; 6]) -> Result<usize> = match width {
                Width::Bits64 => |args| sleep_relative(Width::Bits64, args[0], args[1]),
                Width::Bits32 => |args| sleep_relative(Width::Bits32, args[0], args[1]),
            };
            Err(set_restart_fn(function, [deadline, remaining, 0, 0, 0, 0]))
        }
    }
}

/// nanosleep(2).
pub fn sys_nanosleep(request: u64, remaining: u64) -> Result<usize> {
    nanosleep(Width::Bits64, request, remaining)
}

/// nanosleep(2) with `timespec`s of this width.
pub fn nanosleep(width: Width, request: u64, remaining: u64) -> Result<usize> {
    let ns = Timespec::read(width, request)?.to_ns()?;
    sleep_relative(width, time::now().saturating_add(ns), remaining)
}

/// clock_nanosleep(2).
pub fn sys_clock_nanosleep(id: u64, flags: u64, request: u64, remaining: u64) -> Result<usize> {
    clock_nanosleep(Width::Bits64, id, flags, request, remaining)
}

/// clock_nanosleep(2) with `timespec`s of this width.
pub fn clock_nanosleep(width: Width, id: u64, flags: u64, request: u64, remaining: u64) -> Result<usize> {
    let clock = Clock::to_wait_for(id)?;
    // The one id of a thread's own clock that is not even a wrong one.
    if id as u32 == CLOCK_THREAD_CPUTIME_ID {
        return Err(Errno::EOPNOTSUPP);
    }
    let ns = Timespec::read(width, request)?.to_ns()?;
    let absolute = flags as u32 & TIMER_ABSTIME != 0;
    if let Some(cpu) = clock.cpu(false)? {
        // Nobody's own time goes on while he sleeps.
        if cpu.thread.is_some_and(|thread| core::ptr::eq(&*thread, current())) {
            return Err(Errno::EINVAL);
        }
        let target = if absolute { ns } else { clock.now()?.saturating_add(ns) };
        return sleep_on_cpu_clock(width, id, target, if absolute { None } else { Some(remaining) });
    }
    if !absolute {
        return sleep_relative(width, time::now().saturating_add(ns), remaining);
    }
    // A time of day that is set may have to be looked at again.
    while clock.now()? < ns {
        sleep_until(clock.deadline(ns)?).map_err(|_| Errno::ERESTARTNOHAND)?;
    }
    Ok(0)
}

/// Sleeps until a CPU clock shows `target`. If a signal comes first, a relative sleep (`remaining`: where to write what is
/// left, or 0) goes on from its restart block.
fn sleep_on_cpu_clock(width: Width, id: u64, target: u64, remaining: Option<u64>) -> Result<usize> {
    let clock = Clock::new(id)?.cpu(false)?.ok_or(Errno::EINVAL)?;
    if sleep_until_shows(&clock, target).is_ok() {
        return Ok(0);
    }
    let Some(remaining) = remaining else {
        return Err(Errno::ERESTARTNOHAND);
    };
    if remaining != 0 {
        let left = target.saturating_sub(clock.now());
        Timespec::from_ns(left).write(width, remaining)?;
    }
    let function: fn([u64; 6]) -> Result<usize> = match width {
        Width::Bits64 => |args| sleep_on_cpu_clock(Width::Bits64, args[0], args[1], Some(args[2])),
        Width::Bits32 => |args| sleep_on_cpu_clock(Width::Bits32, args[0], args[1], Some(args[2])),
    };
    Err(set_restart_fn(function, [id, target, remaining, 0, 0, 0]))
}

/// Sleeps until it shows `target`; ERESTARTSYS if a signal comes first. The clock goes at most as fast as all CPUs
/// together, so it is looked at again when it could be there.
fn sleep_until_shows(clock: &CpuClock, target: u64) -> Result<()> {
    const LEAST: u64 = 1_000_000;
    loop {
        let left = target.saturating_sub(clock.now());
        if left == 0 {
            return Ok(());
        }
        let pause = (left / cpu::count() as u64).max(LEAST);
        sleep_until(time::now().saturating_add(pause))?;
    }
}
