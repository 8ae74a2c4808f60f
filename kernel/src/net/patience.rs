//! How long a call on a socket waits.

use crate::errno::{Errno, Result};
use crate::sched::wait::{FOREVER, WaitQueue, deadline_after};

/// What a call waits for at most: nothing (`O_NONBLOCK`, `MSG_DONTWAIT`), a time (`SO_RCVTIMEO`, `SO_SNDTIMEO`), or whatever it takes.
#[derive(Clone, Copy)]
pub struct Patience {
    nonblocking: bool,
    deadline: u64,
}

impl Patience {
    /// Does not wait.
    #[cfg(test)]
    pub const NONE: Patience = Patience { nonblocking: true, deadline: FOREVER };

    /// Waits so many nanoseconds at most, from now on; [`FOREVER`] is no limit.
    pub fn new(nonblocking: bool, timeout: u64) -> Patience {
        let deadline = if nonblocking || timeout == FOREVER { FOREVER } else { deadline_after(timeout) };
        Patience { nonblocking, deadline }
    }

    /// Whether it waits at all.
    pub fn is_none(&self) -> bool {
        self.nonblocking
    }

    /// Tries until there is a result, each time the queue is woken. EAGAIN when there was none in time. A signal ends the wait: the
    /// call is begun again behind the handler, but not if the wait had a limit, of which some is used up.
    pub fn wait<T>(&self, queue: &WaitQueue, mut attempt: impl FnMut() -> Option<T>) -> Result<T> {
        if self.nonblocking {
            return attempt().ok_or(Errno::EAGAIN);
        }
        queue.wait_until_timeout(self.deadline, attempt).map_err(|error| match error {
            Errno::ETIMEDOUT => Errno::EAGAIN,
            Errno::ERESTARTSYS if self.deadline != FOREVER => Errno::EINTR,
            error => error,
        })
    }
}
