//! Clocks and sleeping.

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::{cpu, time};
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::sched::clock_watchers;
use crate::sched::usage::Usage;
use crate::sched::wait::sleep_until;
use crate::task::pid_namespace::meant;
use crate::task::process::{Pid, Process};
use crate::task::restart::restart_by;
use crate::task::{Task, current, current_arc, process, usage};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// The longest time that a program can ask for (Linux's `KTIME_MAX`). The sum of two does not overflow: a deadline, a
/// period, or the time since boot may be added to it.
pub const MAX_NS: u64 = i64::MAX as u64;

/// Seconds and a part of one, neither of which is negative.
fn nanoseconds(seconds: i64, part: i64) -> u64 {
    (seconds as u64).saturating_mul(SECOND).saturating_add(part as u64).min(MAX_NS)
}

/// `struct timespec`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timespec {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 … 999 999 999.
    pub nanoseconds: i64,
}

impl Timespec {
    /// Reads one whose members are this wide: 32-bit calls have two kinds, as those of the `time64` calls are 64 bits wide.
    pub fn read(width: Width, address: u64) -> Result<Self> {
        let [seconds, mut nanoseconds] = c_long::read_of(width, address)?;
        if width == Width::Bits64 && current().call.is_compat() {
            // Half of the member is padding there.
            nanoseconds = i64::from(nanoseconds as u32);
        }
        Ok(Timespec { seconds, nanoseconds })
    }

    /// Writes it with members that wide.
    pub fn write(self, width: Width, address: u64) -> Result<()> {
        c_long::write_of(width, address, [self.seconds, self.nanoseconds])
    }

    /// From nanoseconds.
    pub fn from_ns(ns: u64) -> Self {
        Timespec { seconds: (ns / SECOND) as i64, nanoseconds: (ns % SECOND) as i64 }
    }

    /// In nanoseconds, at most [`MAX_NS`]. EINVAL unless normalised and not negative.
    pub fn to_ns(self) -> Result<u64> {
        if self.seconds < 0 || !(0..SECOND as i64).contains(&self.nanoseconds) {
            return Err(Errno::EINVAL);
        }
        Ok(nanoseconds(self.seconds, self.nanoseconds))
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timeval {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 … 999 999.
    pub microseconds: i64,
}

impl Timeval {
    /// Reads one as wide as the call's.
    pub fn read(address: u64) -> Result<Self> {
        let [seconds, microseconds] = c_long::read(address)?;
        Ok(Timeval { seconds, microseconds })
    }

    /// Writes it as wide as the call's.
    pub fn write(self, address: u64) -> Result<()> {
        c_long::write(address, [self.seconds, self.microseconds])
    }

    /// From nanoseconds, rounded down.
    pub fn from_ns(ns: u64) -> Self {
        Timeval { seconds: (ns / SECOND) as i64, microseconds: (ns % SECOND / 1000) as i64 }
    }

    /// In nanoseconds, at most [`MAX_NS`]. EINVAL unless normalised and not negative.
    pub fn to_ns(self) -> Result<u64> {
        if self.seconds < 0 || !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        Ok(nanoseconds(self.seconds, self.microseconds * 1000))
    }
}

/// Which CPU time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CpuTime {
    /// All of it.
    All,
    /// That in user mode.
    User,
}

/// A clock that `clock_gettime` can name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Time of day.
    Realtime,
    /// Time since boot.
    Monotonic,
    /// CPU time of a process (0: the caller's).
    Process(Pid, CpuTime),
    /// CPU time of a thread (0: the caller).
    Thread(Pid, CpuTime),
}

/// Whose CPU time a clock counts.
pub struct CpuClock {
    /// The process.
    pub process: Arc<Process>,
    /// Only this thread of it.
    pub thread: Option<Arc<Task>>,
    /// Which time.
    pub time: CpuTime,
}

impl CpuClock {
    /// Its time, in nanoseconds.
    pub fn now(&self) -> u64 {
        let of = |usage: &Usage| match self.time {
            CpuTime::All => usage.total(),
            CpuTime::User => usage.times().user,
        };
        match &self.thread {
            Some(thread) => of(&thread.usage),
            None => of(&usage::of_process(&self.process)),
        }
    }

    /// Sleeps until it shows `target`; ERESTARTSYS if a signal comes first. The clock goes at most as fast as all CPUs
    /// together, so it is looked at again when it could be there.
    fn sleep_until(&self, target: u64) -> Result<()> {
        const LEAST: u64 = 1_000_000;
        loop {
            let left = target.saturating_sub(self.now());
            if left == 0 {
                return Ok(());
            }
            let pause = (left / cpu::count() as u64).max(LEAST);
            sleep_until(time::now().saturating_add(pause))?;
        }
    }
}

impl Clock {
    /// The clock with this id.
    pub fn new(id: u64) -> Result<Clock> {
        let id = id as i32;
        // Made from a PID: `!pid << 3`, bit 2 for a thread, then which CPU time: all, that in user mode, or all as the
        // scheduler counts it (3 is not one).
        let time = match id & 3 {
            1 => CpuTime::User,
            _ => CpuTime::All,
        };
        match id {
            0.. => match id as u32 {
                CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM | CLOCK_TAI => Ok(Clock::Realtime),
                CLOCK_MONOTONIC
                | CLOCK_MONOTONIC_RAW
                | CLOCK_MONOTONIC_COARSE
                | CLOCK_BOOTTIME
                | CLOCK_BOOTTIME_ALARM => Ok(Clock::Monotonic),
                CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::Process(0, CpuTime::All)),
                CLOCK_THREAD_CPUTIME_ID => Ok(Clock::Thread(0, CpuTime::All)),
                _ => Err(Errno::EINVAL),
            },
            _ if id & 3 == 3 => Err(Errno::EINVAL),
            _ if id & 4 != 0 => Ok(Clock::Thread(!(id >> 3), time)),
            _ => Ok(Clock::Process(!(id >> 3), time)),
        }
    }

    /// The clock with this id, for timers and sleeps. EOPNOTSUPP for those that are only read.
    pub fn to_wait_for(id: u64) -> Result<Clock> {
        match id as u32 {
            CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => Err(Errno::EOPNOTSUPP),
            _ => Clock::new(id),
        }
    }

    /// Whose CPU time it counts, if it does. Of threads only those of the current process have clocks. A process is named by
    /// its own id; who only reads (`reading`) may name its own by the current thread's, too. EINVAL otherwise.
    pub fn cpu(self, reading: bool) -> Result<Option<CpuClock>> {
        let current = current_arc();
        let (process, thread, time) = match self {
            Clock::Realtime | Clock::Monotonic => return Ok(None),
            Clock::Process(0, time) => (current.process.clone(), None, time),
            Clock::Process(pid, time) => {
                let id = meant(pid);
                let own = || (reading && id == current.tid()).then(|| current.process.clone());
                (process::find(id).or_else(own).ok_or(Errno::EINVAL)?, None, time)
            }
            Clock::Thread(0, time) => (current.process.clone(), Some(current), time),
            Clock::Thread(tid, time) => {
                let thread = process::find_task(meant(tid))
                    .filter(|thread| Arc::ptr_eq(&thread.process, &current.process))
                    .ok_or(Errno::EINVAL)?;
                (current.process.clone(), Some(thread), time)
            }
        };
        Ok(Some(CpuClock { process, thread, time }))
    }

    /// Its time, in nanoseconds.
    pub fn now(self) -> Result<u64> {
        Ok(match self {
            Clock::Realtime => time::realtime(),
            Clock::Monotonic => time::now(),
            Clock::Process(0, CpuTime::All) => usage::of_process(&current().process).total(),
            Clock::Thread(0, CpuTime::All) => current().usage.total(),
            _ => self.cpu(true)?.map_or(0, |clock| clock.now()),
        })
    }

    /// When, in [`time::now`]'s time, a clock of the machine will show `at`.
    pub fn deadline(self, at: u64) -> Result<u64> {
        match self {
            Clock::Monotonic => Ok(at),
            _ => Ok(time::now().saturating_add(at.saturating_sub(self.now()?))),
        }
    }
}

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
            Err(restart_by(function, [deadline, remaining, 0, 0, 0, 0]))
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
    if clock.sleep_until(target).is_ok() {
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
    Err(restart_by(function, [id, target, remaining, 0, 0, 0]))
}
