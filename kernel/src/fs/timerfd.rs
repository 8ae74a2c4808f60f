//! timerfd: a timer whose expirations are read from a descriptor.
//!
//! Nothing runs when an interval passes: how often it has is worked out when somebody asks. A timer of the kernel's is set
//! only for the next expiration that a sleeper may wait for, and wakes [`clock_watchers::WATCHERS`]; each looks for itself.

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;

use linux_raw_sys::{errno, general as abi};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::sched::clock_watchers::WATCHERS;
use crate::sched::timer::TimerId;
use crate::sched::wait::PollTable;
use crate::sched::{clock_watchers, timer};
use crate::task::clock::{Clock, SECOND};
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::buffer::Destination;
use crate::vfs::file::{File, FileOps};

/// Longer times are cut to this one.
const LONGEST: u64 = i64::MAX as u64;
const ECANCELED: Errno = Errno(errno::ECANCELED as usize);

pub struct TimerFd {
    /// As the program named it.
    clock_id: u32,
    state: SpinLock<State>,
}

struct State {
    /// What `next` is measured by: the real-time clock only for its absolute times, which follow it when it is set.
    clock: Clock,
    /// When it expires next, or expired first and nobody has read that yet. None: not armed, or read.
    next: Option<u64>,
    /// Between two expirations; 0: there is one only.
    interval: u64,
    /// `TFD_TIMER_*` of the last setting.
    flags: u32,
    /// It ends when the real-time clock is set.
    cancels: bool,
    /// What the real-time clock was ahead of the monotonic one when that was last looked at.
    offset: u64,
    /// The kernel's timer, and when that comes.
    waits: Option<(u64, TimerId)>,
    /// Counts the times that `next` was set: each makes one event.
    edges: u64,
}

/// What a look at the timer gives.
enum Look {
    /// The clock was set.
    Canceled,
    Expired(u64),
    Waits,
}

impl State {
    fn now(&self) -> u64 {
        // Neither clock fails.
        self.clock.now().unwrap_or(0)
    }

    /// How often it has expired and nobody has read that.
    fn expirations(&self) -> u64 {
        let Some(late) = self.next.and_then(|next| self.now().checked_sub(next)) else {
            return 0;
        };
        1 + late.checked_div(self.interval).unwrap_or(0)
    }

    /// Until it expires next; 0: never.
    fn left(&self) -> u64 {
        let Some(next) = self.next else { return 0 };
        let now = self.now();
        match now.checked_sub(next) {
            None => next - now,
            Some(_) if self.interval == 0 => 0,
            Some(late) => self.interval - late % self.interval,
        }
    }

    fn was_canceled(&self) -> bool {
        self.cancels && self.offset != time::realtime_offset()
    }

    /// Whether it was canceled; says so once.
    fn take_cancellation(&mut self) -> bool {
        let canceled = self.was_canceled();
        if canceled {
            self.offset = time::realtime_offset();
        }
        canceled
    }

    fn set_next(&mut self, next: Option<u64>) {
        self.next = next;
        self.edges += 1;
    }

    /// Takes what there is to read, and goes on to the next interval.
    fn take(&mut self) -> Look {
        let expirations = self.expirations();
        if self.take_cancellation() {
            if expirations != 0 {
                // Who reads this is to set it anew.
                self.set_next(None);
            }
            return Look::Canceled;
        }
        if expirations == 0 {
            return Look::Waits;
        }
        let next = self
            .next
            .filter(|_| self.interval != 0)
            .and_then(|next| next.checked_add(expirations.checked_mul(self.interval)?));
        self.set_next(next);
        Look::Expired(expirations)
    }

    /// Sees to it that the next expiration wakes [`WATCHERS`].
    fn arm(&mut self) {
        let next = self.next.filter(|&next| next > self.now());
        let deadline = next.and_then(|next| self.clock.deadline(next).ok());
        if deadline == self.waits.as_ref().map(|(deadline, _)| *deadline) {
            return;
        }
        self.disarm();
        self.waits =
            deadline.map(|deadline| (deadline, timer::add_timer(deadline, clock_watchers::wake_watchers, 0, 0)));
    }

    fn disarm(&mut self) {
        if let Some((_, timer)) = self.waits.take() {
            timer::cancel_timer(timer);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl FileOps for TimerFd {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let attempt = || {
            let mut state = self.state.lock();
            let look = state.take();
            state.arm();
            match look {
                Look::Waits => None,
                Look::Canceled => Some(Err(ECANCELED)),
                Look::Expired(count) => Some(Ok(count)),
            }
        };
        let count = match attempt() {
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => WATCHERS.wait_until(attempt)?,
            Some(count) => count,
        }?;
        to.put(&count.to_ne_bytes())?;
        Ok(8)
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            WATCHERS.register(table);
        }
        let mut state = self.state.lock();
        if table.is_some() {
            state.arm();
        }
        if state.expirations() != 0 || state.was_canceled() { abi::POLLIN } else { 0 }
    }

    fn edges(&self) -> u64 {
        let state = self.state.lock();
        state.edges
    }

    fn describe(&self, _file: &File, out: &mut String) {
        let state = self.state.lock();
        let pair = |time: u64| (time / SECOND, time % SECOND);
        let expirations = state.expirations();
        let left = if expirations == 0 { state.left() } else { 0 };
        let _ = writeln!(
            out,
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: {:?}\nit_interval: {:?}",
            self.clock_id,
            expirations.min(1),
            state.flags,
            pair(left),
            pair(state.interval),
        );
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// An open timerfd that is not set. `clock_id`: one of those that timerfd_create(2) lists; `flags`: TFD_NONBLOCK or 0.
pub fn new_timerfd(clock_id: u32, flags: u32) -> Arc<File> {
    let state = State {
        clock: Clock::Monotonic,
        next: None,
        interval: 0,
        flags: 0,
        cancels: false,
        offset: time::realtime_offset(),
        waits: None,
        edges: 0,
    };
    let ops = TimerFd { clock_id, state: SpinLock::new(state) };
    anonymous_file("timerfd", Arc::new(ops), abi::O_RDWR | flags)
}

/// The timer behind an open file; EINVAL for any other.
pub fn timer_of(file: &File) -> Result<&TimerFd> {
    file.ops().as_any().and_then(|ops| ops.downcast_ref()).ok_or(Errno::EINVAL)
}

impl TimerFd {
    /// Sets the timer (`flags`: `TFD_TIMER_*`); times are in nanoseconds. Returns interval and time left from before.
    pub fn set(&self, flags: u32, interval: u64, value: u64) -> Result<(u64, u64)> {
        let (interval, value) = (interval.min(LONGEST), value.min(LONGEST));
        let before = {
            let mut state = self.state.lock();
            let before = (state.interval, state.left());
            let absolute = flags & abi::TFD_TIMER_ABSTIME != 0;
            let real = matches!(self.clock_id, abi::CLOCK_REALTIME | abi::CLOCK_REALTIME_ALARM);
            state.clock = if absolute && real { Clock::Realtime } else { Clock::Monotonic };
            state.cancels = absolute && real && flags & abi::TFD_TIMER_CANCEL_ON_SET != 0;
            state.flags = flags;
            state.interval = interval;
            let next = match value {
                0 => None,
                _ if absolute => Some(value),
                _ => Some(state.now().saturating_add(value)),
            };
            state.set_next(next);
            state.arm();
            // The setting counts all the same.
            if next.is_some() && state.take_cancellation() {
                return Err(ECANCELED);
            }
            before
        };
        // It may have expired already.
        WATCHERS.wake_all();
        Ok(before)
    }

    /// Interval and time left, in nanoseconds.
    pub fn setting(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.interval, state.left())
    }
}
