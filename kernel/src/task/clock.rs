//! Clocks and sleeping.

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::c_long;
use crate::memory::width::Width;
use crate::sched::usage::Usage;
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::process::Process;
use crate::task::{Task, current, current_arc, tree, usage};

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
        if width == Width::Bits64 && current().syscall_info.is_compat() {
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
            CpuTime::User => usage.times().utime,
        };
        match &self.thread {
            Some(thread) => of(&thread.usage),
            None => of(&usage::of_process(&self.process)),
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
                (tree::find(id).or_else(own).ok_or(Errno::EINVAL)?, None, time)
            }
            Clock::Thread(0, time) => (current.process.clone(), Some(current), time),
            Clock::Thread(tid, time) => {
                let thread = tree::find_task(meant(tid))
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

#[cfg(test)]
mod tests;
