//! A process's timers. What sets them and what happens when they run out is in [`signal::interval_timers`](crate::signal::interval_timers) and
//! [`signal::posix_timers`](crate::signal::posix_timers).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::*};

use crate::machine::sync::SpinLock;
use crate::sched::scheduler::TICK_WATCHERS;
use crate::sched::timer;
use crate::sched::timer::TimerId;
use crate::task::pid::Pid;
use crate::task::timers::posix::PosixTimers;

/// A process's timers.
#[derive(Default)]
pub struct Timers {
    pub real: SpinLock<Interval>,
    /// ITIMER_VIRTUAL and ITIMER_PROF: looked at by the tick.
    pub cpu: SpinLock<[Interval; 2]>,
    /// POSIX timers, of whatever process, that count this one's CPU time: who owns them, and their ids. Looked at by the
    /// tick.
    pub watched: SpinLock<Vec<(Pid, i32)>>,
    /// Whether the tick has something to look at: a timer of CPU time, or a limit of it. It is cleared with the locks of all of these,
    /// and set with the lock of the one that comes; the process's end clears it, too. Each process that has it set counts among
    /// [`TICK_WATCHERS`].
    cpu_armed: AtomicBool,
    /// Its POSIX timers.
    pub posix: PosixTimers,
}

/// A deadline, its repetition, and the timer that waits for it. Zero: not armed.
#[derive(Default)]
pub struct Interval {
    pub deadline: u64,
    pub period: u64,
    pub timer: Option<TimerId>,
}

impl Interval {
    /// What is left at `now`, at least a nanosecond if armed; and the period.
    pub fn left(&self, now: u64) -> (u64, u64) {
        let left = if self.deadline == 0 { 0 } else { self.deadline.saturating_sub(now).max(1) };
        (left, self.period)
    }

    /// Goes on after `now`. Returns how many deadlines were missed besides the first.
    pub fn advance(&mut self, now: u64) -> u64 {
        if self.period == 0 {
            self.deadline = 0;
            return 0;
        }
        let missed = now.saturating_sub(self.deadline) / self.period;
        self.deadline += (missed + 1) * self.period;
        missed
    }

    pub fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer::cancel_timer(timer);
        }
        self.deadline = 0;
        self.period = 0;
    }
}

impl Timers {
    /// The process ends.
    pub fn stop_all(&self) {
        self.real.lock().stop();
        self.disarm_cpu();
        self.posix.delete_all();
    }

    /// From now on the process's ticks look at a POSIX timer, as long as that is set. Allocates.
    pub fn watch(&self, owner: Pid, id: i32) {
        let mut watched = self.watched.lock();
        if !watched.contains(&(owner, id)) {
            watched.push((owner, id));
        }
        self.arm_cpu();
    }

    /// The tick has something to look at: a timer or a limit of CPU time, whose lock is held.
    pub fn arm_cpu(&self) {
        if !self.cpu_armed.swap(true, Relaxed) {
            TICK_WATCHERS.fetch_add(1, Relaxed);
        }
    }

    /// The tick has nothing to look at; the locks of all that it could be are held.
    pub fn disarm_cpu(&self) {
        if self.cpu_armed.swap(false, Relaxed) {
            TICK_WATCHERS.fetch_sub(1, Relaxed);
        }
    }

    /// Whether the tick has something to look at.
    #[inline]
    pub fn is_cpu_armed(&self) -> bool {
        self.cpu_armed.load(Relaxed)
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.disarm_cpu();
    }
}

pub mod posix;
#[cfg(test)]
mod tests;
