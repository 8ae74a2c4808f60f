//! The POSIX timers of a process: what they count and when they run out. What they do then is in
//! [`signal::posix_timers`](crate::signal::posix_timers).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicI32;

use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::sched::timer;
use crate::sched::timer::TimerId;
use crate::task::pid::Pid;
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
    Wall {
        /// It is the real-time clock.
        realtime: bool,
    },
    /// The CPU time of a process or of one of its threads.
    Cpu(Arc<dyn CpuTimeSource>),
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

/// The CPU time of a process at some moment.
#[derive(Clone, Copy)]
pub struct Sample {
    /// The process, by its address.
    pub process: *const (),
    /// Its time.
    pub total: u64,
}

/// CPU time that a timer counts: a process's or a thread's, as long as that lives.
pub trait CpuTimeSource: Send + Sync {
    /// The time; `sample` may be known already. None: nobody's any more.
    fn now(&self, sample: Option<Sample>) -> Option<u64>;

    /// From now on the ticks of the process look at a timer.
    fn watch(&self, owner: Pid, id: i32);
}

impl Source {
    /// The time as deadlines are kept in, as [`CpuTimeSource::now`] gives it.
    pub fn now(&self, sample: Option<Sample>) -> Option<u64> {
        match self {
            Source::Wall { .. } => Some(time::now()),
            Source::Cpu(source) => source.now(sample),
        }
    }

    /// Whether it is CPU time.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Source::Cpu(_))
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

#[cfg(test)]
mod tests;
