//! Signals that were sent and not yet taken.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::info::{SI_TIMER, SI_USER, SigInfo};
use super::set::*;
use crate::errno::{Errno, Result};

/// How much room a queue keeps, so that an interrupt handler can send without allocating.
const ROOM: usize = 16;

/// How much information is queued in the system, for RLIMIT_SIGPENDING (every user is the same one here).
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// The pending signals of a task or a process: a set, and the information of each in order of arrival.
///
/// A standard signal is in the queue at most once; a real-time signal as often as it was sent. A signal in the set
/// without an entry has lost its information.
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// Nothing pending. Allocates.
    pub fn new() -> Pending {
        Pending {
            set: SigSet::EMPTY,
            queue: VecDeque::with_capacity(ROOM),
        }
    }

    /// The signals that are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Makes room, so that the next [`push`](Self::push) has it. Allocates: not for interrupt handlers.
    pub fn reserve(&mut self) {
        if self.queue.capacity() - self.queue.len() < ROOM {
            // Without memory the information is lost, as `push` does it, not the signal.
            let _ = self.queue.try_reserve(ROOM);
        }
    }

    /// Adds a signal. `limit` is the sender's RLIMIT_SIGPENDING. Says whether it is news: a standard signal that is
    /// pending already is not sent again. A real-time signal of `sigqueue` that finds no room is refused (EAGAIN); any
    /// other loses its information.
    pub fn push(&mut self, info: SigInfo, limit: usize) -> Result<bool> {
        let standard = info.signo < SIGRTMIN;
        if standard && self.set.contains(info.signo) {
            return Ok(false);
        }
        // Every sender does without information for SIGKILL; it takes no room when memory is short.
        if info.signo != SIGKILL {
            let exempt = standard && info.code >= SI_USER;
            let room = self.queue.len() < self.queue.capacity() && (exempt || QUEUED.load(Relaxed) < limit);
            if room {
                QUEUED.fetch_add(1, Relaxed);
                self.queue.push_back(info);
            } else if !standard && info.code != SI_USER && info.code != SI_TIMER {
                return Err(Errno::EAGAIN);
            }
        }
        self.set.insert(info.signo);
        Ok(true)
    }

    /// Adds a signal without information.
    pub fn add_lost(&mut self, signo: i32) {
        self.set.insert(signo);
    }

    /// The information at this place in the queue.
    pub fn queued(&self, index: usize) -> Option<SigInfo> {
        self.queue.get(index).copied()
    }

    /// Counts one more expiry of a POSIX timer whose signal is still queued. False if it is not.
    pub fn count_overrun(&mut self, timer: i32) -> bool {
        match self.queue.iter_mut().find(|info| info.timer_id() == Some(timer)) {
            Some(info) => {
                info.count_overrun();
                true
            }
            None => false,
        }
    }

    /// Takes the next signal that is not blocked.
    pub fn take(&mut self, blocked: SigSet) -> Option<SigInfo> {
        let signo = self.set.without(blocked).next()?;
        Some(self.take_signal(signo))
    }

    /// Takes the oldest signal that an instruction of the task caused.
    pub fn take_synchronous(&mut self, blocked: SigSet) -> Option<SigInfo> {
        if self
            .set
            .without(blocked)
            .intersection(SigSet::SYNCHRONOUS)
            .is_empty()
        {
            return None;
        }
        let at = self
            .queue
            .iter()
            .position(|info| info.is_synchronous() && !blocked.contains(info.signo))?;
        let signo = self.queue[at].signo;
        Some(self.remove_at(at, signo))
    }

    fn take_signal(&mut self, signo: i32) -> SigInfo {
        match self.queue.iter().position(|info| info.signo == signo) {
            Some(at) => self.remove_at(at, signo),
            None => {
                self.set.remove(signo);
                SigInfo::lost(signo)
            }
        }
    }

    fn remove_at(&mut self, at: usize, signo: i32) -> SigInfo {
        let info = self.queue.remove(at).unwrap_or(SigInfo::lost(signo));
        QUEUED.fetch_sub(1, Relaxed);
        if !self.queue.iter().any(|other| other.signo == signo) {
            self.set.remove(signo);
        }
        info
    }

    /// Forgets these signals.
    pub fn flush(&mut self, signals: SigSet) {
        if self.set.intersection(signals).is_empty() {
            return;
        }
        self.set = self.set.without(signals);
        let before = self.queue.len();
        self.queue.retain(|info| !signals.contains(info.signo));
        QUEUED.fetch_sub(before - self.queue.len(), Relaxed);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        QUEUED.fetch_sub(self.queue.len(), Relaxed);
    }
}
