//! When a wait ends.

use crate::machine::time;
use crate::sched::wait::{FOREVER, Timeout};

/// The time at which a wait ends, in nanoseconds of a clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    Never,
    /// CLOCK_MONOTONIC.
    Monotonic(u64),
    /// CLOCK_REALTIME.
    Realtime(u64),
}

impl Deadline {
    /// When it comes, in [`time::now`]'s time, if nobody sets the clock.
    fn in_boot_time(self) -> u64 {
        match self {
            Deadline::Never => FOREVER,
            Deadline::Monotonic(at) => at,
            Deadline::Realtime(at) => time::now().saturating_add(at.saturating_sub(time::realtime())),
        }
    }
}

/// Wakes the current task at a deadline.
pub struct Alarm {
    deadline: Deadline,
    timeout: Timeout,
}

impl Alarm {
    pub fn new(deadline: Deadline) -> Alarm {
        Alarm { deadline, timeout: Timeout::new(deadline.in_boot_time()) }
    }

    /// Whether the time has come. Asked after the state is set.
    pub fn has_rung(&mut self) -> bool {
        match self.deadline {
            Deadline::Realtime(at) if self.timeout.passed() => {
                let come = time::realtime() >= at;
                if !come {
                    // The clock was set back.
                    self.timeout = Timeout::new(self.deadline.in_boot_time());
                }
                come
            }
            _ => self.timeout.passed(),
        }
    }
}
