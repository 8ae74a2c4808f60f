//! The POSIX timers of a process: what they count and when they run out. What they do then is in
//! [`signal::posix_timers`](crate::signal::posix_timers).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::AtomicI32;

use crate::errno::Result;
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::sched::timer;
use crate::sched::timer::TimerId;
use crate::task::Task;
use crate::task::clock::{Clock, CpuClock, CpuTime};
use crate::task::process::{Pid, Process};
use crate::task::signals::quota::Charge;

/// The timers of a process.
#[derive(Default)]
pub struct PosixTimers {
    pub list: SpinLock<Vec<Timer>>,
    pub next_id: AtomicI32,
}

/// What a timer counts.
#[derive(Clone)]
pub enum Source {
    /// A clock of the machine. Its deadlines are kept in [`time::now`]'s time.
    Wall(Clock),
    /// The CPU time of a process or of one of its threads, as long as that lives.
    Cpu { process: Weak<Process>, thread: Option<Weak<Task>>, time: CpuTime },
}

pub struct Timer {
    pub id: i32,
    pub source: Source,
    /// The signal; 0 for none.
    pub signal: i32,
    pub value: u64,
    /// Thread to signal; 0 for the process.
    pub thread: Pid,
    /// When it runs out next; 0 if it is not set.
    pub deadline: u64,
    pub period: u64,
    /// What waits for the deadline.
    pub waits: Option<TimerId>,
    /// It repeats and has run out: it goes on when its signal is taken.
    pub fired: bool,
    /// Counts the calls that set it: a signal of an earlier setting does not make it go on.
    pub setting: u32,
    /// How often it has run out since its last signal was taken, without the time that the signal is for.
    pub overrun: i64,
    /// The same when that signal was taken.
    pub last_overrun: i64,
    /// Its signal's place in the queue.
    pub _charge: Charge,
}

impl Source {
    pub fn new(clock: Clock) -> Result<Source> {
        Ok(match clock.cpu(false)? {
            None => Source::Wall(clock),
            Some(CpuClock { process, thread, time }) => {
                Source::Cpu { process: Arc::downgrade(&process), thread: thread.as_ref().map(Arc::downgrade), time }
            }
        })
    }

    /// What it counts, if it is CPU time and whose it is lives.
    pub fn cpu(&self) -> Option<CpuClock> {
        match self {
            Source::Wall(_) => None,
            Source::Cpu { process, thread, time } => Some(CpuClock {
                process: process.upgrade()?,
                thread: match thread {
                    None => None,
                    Some(thread) => Some(thread.upgrade()?),
                },
                time: *time,
            }),
        }
    }

    /// The time as deadlines are kept in. `sample`: a process, and its CPU time now. None: nobody's any more.
    pub fn now(&self, sample: Option<(&Process, u64)>) -> Option<u64> {
        match (self, sample) {
            (Source::Wall(_), _) => Some(time::now()),
            (Source::Cpu { process, thread: None, time: CpuTime::All }, Some((sampled, total)))
                if core::ptr::eq(process.as_ptr(), sampled) =>
            {
                Some(total)
            }
            _ => self.cpu().map(|clock| clock.now()),
        }
    }

    pub fn is_cpu(&self) -> bool {
        matches!(self, Source::Cpu { .. })
    }
}

impl Timer {
    /// Moves the deadline beyond `now`, if it repeats. Returns how many deadlines that passes.
    pub fn forward(&mut self, now: u64) -> i64 {
        if self.period == 0 || self.deadline == 0 || self.deadline > now {
            return 0;
        }
        let passed = (now - self.deadline) / self.period + 1;
        self.deadline = self.deadline.saturating_add(passed.saturating_mul(self.period));
        i64::try_from(passed).unwrap_or(i64::MAX)
    }

    /// It is not set any more.
    pub fn stop(&mut self) {
        if let Some(timer) = self.waits.take() {
            timer::cancel_timer(timer);
        }
        self.deadline = 0;
        self.fired = false;
    }

    /// What is left, and the period. A timer that waits for its signal to be taken, or has none, is moved on.
    pub fn left(&mut self) -> (u64, u64) {
        let Some(now) = self.source.now(None).filter(|_| self.deadline != 0) else {
            return (0, self.period);
        };
        if self.fired && !self.source.is_cpu() || self.signal == 0 {
            self.overrun = self.overrun.saturating_add(self.forward(now));
        }
        // One that is about to run out has a nanosecond left; without a signal nobody would notice that it has.
        let least = u64::from(self.signal != 0);
        (self.deadline.saturating_sub(now).max(least), self.period)
    }
}

impl PosixTimers {
    /// The process ends, or execs: all are deleted.
    pub fn delete_all(&self) {
        let mut timers = core::mem::take(&mut *self.list.lock());
        timers.iter_mut().for_each(Timer::stop);
    }
}
