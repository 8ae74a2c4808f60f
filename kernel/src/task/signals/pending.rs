//! Signals that were sent and not yet taken.

use alloc::collections::VecDeque;

use crate::errno::{Errno, Result};
use crate::task::signals::info::{SI_USER, SigInfo};
use crate::task::signals::quota::{Charge, User};
use crate::task::signals::set::*;

/// How much room a queue keeps, so that an interrupt handler can send without allocating.
const ROOM: usize = 16;

/// One pending signal.
struct Entry {
    signal: Dequeued,
    /// None for a timer, which has its own, and for what an instruction caused, which is taken at once.
    _charge: Option<Charge>,
}

/// A signal that was taken.
#[derive(Clone, Copy)]
pub struct Dequeued {
    /// What comes with it.
    pub info: SigInfo,
    /// For which setting of a POSIX timer it is.
    pub timer: Option<u32>,
}

impl Dequeued {
    fn lost(signo: i32) -> Dequeued {
        Dequeued { info: SigInfo::lost(signo), timer: None }
    }

    /// The signal's number.
    pub fn signo(&self) -> i32 {
        self.info.signo
    }
}

/// The pending signals of a task or a process: a set, and the information of each in order of arrival.
///
/// A standard signal is in the queue at most once; a real-time signal as often as it was sent. A signal in the set
/// without an entry has lost its information.
pub struct Pending {
    set: SigSet,
    queue: VecDeque<Entry>,
}

impl Pending {
    /// Nothing pending. Allocates.
    pub fn new() -> Pending {
        Pending { set: SigSet::EMPTY, queue: VecDeque::with_capacity(ROOM) }
    }

    /// The signals that are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Makes room, so that the next pushes have it: one, and of `timers` POSIX timers. Allocates: not for interrupt handlers.
    pub fn reserve(&mut self, timers: usize) {
        let wanted = ROOM + timers;
        if self.queue.capacity() - self.queue.len() < wanted {
            // Without memory the information is lost, as `push` does it, not the signal.
            let _ = self.queue.try_reserve(wanted);
        }
    }

    fn has_room(&self) -> bool {
        self.queue.len() < self.queue.capacity()
    }

    fn enqueue(&mut self, info: SigInfo, charge: Option<Charge>, timer: Option<u32>) {
        self.queue.push_back(Entry { signal: Dequeued { info, timer }, _charge: charge });
        self.set.insert(info.signo);
    }

    /// Adds a signal for a process of `user`, with its RLIMIT_SIGPENDING. Says whether it is news: a standard signal that is
    /// pending already is not sent again. A real-time signal of `sigqueue` that finds no room is refused (EAGAIN); any
    /// other loses its information.
    pub fn push(&mut self, info: SigInfo, user: &User, limit: impl FnOnce() -> u64) -> Result<bool> {
        let standard = info.signo < SIGRTMIN;
        if standard && self.set.contains(info.signo) {
            return Ok(false);
        }
        // Every sender does without information for SIGKILL; it takes no room when memory is short.
        if info.signo == SIGKILL {
            self.add_lost(SIGKILL);
            return Ok(true);
        }
        if standard && info.is_synchronous() && self.has_room() {
            self.enqueue(info, None, None);
            return Ok(true);
        }
        let charge = if !self.has_room() {
            None
        } else if standard && info.code >= SI_USER {
            Some(user.charge())
        } else {
            user.charge_within(limit())
        };
        match charge {
            Some(charge) => self.enqueue(info, Some(charge), None),
            None if !standard && info.code != SI_USER => return Err(Errno::EAGAIN),
            None => self.add_lost(info.signo),
        }
        Ok(true)
    }

    /// Adds the signal of a POSIX timer's setting, beside others with its number. One that is still queued counts the
    /// expiry. Says whether it is news; EAGAIN if memory was short.
    pub fn push_timer(&mut self, info: SigInfo, setting: u32) -> Result<bool> {
        let mut signals = self.queue.iter_mut().map(|entry| &mut entry.signal);
        let same = |signal: &&mut Dequeued| signal.timer.is_some() && signal.info.timer_id() == info.timer_id();
        if let Some(signal) = signals.find(same) {
            signal.info.count_overrun();
            signal.timer = Some(setting);
            return Ok(false);
        }
        if !self.has_room() {
            return Err(Errno::EAGAIN);
        }
        self.enqueue(info, None, Some(setting));
        Ok(true)
    }

    /// Adds a signal without information.
    pub fn add_lost(&mut self, signo: i32) {
        self.set.insert(signo);
    }

    /// The information at this place in the queue.
    pub fn queued(&self, index: usize) -> Option<SigInfo> {
        self.queue.get(index).map(|entry| entry.signal.info)
    }

    /// Takes the next signal that is not blocked.
    pub fn take(&mut self, blocked: SigSet) -> Option<Dequeued> {
        let signo = self.set.without(blocked).next()?;
        Some(self.take_signal(signo))
    }

    /// Takes the oldest signal that an instruction of the task caused, if there is one that is not blocked. The oldest itself may be
    /// blocked: Linux 6.12's `dequeue_synchronous_signal` takes it all the same.
    pub fn take_synchronous(&mut self, blocked: SigSet) -> Option<Dequeued> {
        if self.set.without(blocked).intersection(SigSet::SYNCHRONOUS).is_empty() {
            return None;
        }
        let wanted = |Entry { signal, .. }: &Entry| signal.info.is_synchronous();
        // It is taken as soon as the instruction has caused it, so mostly it is the first.
        let at = match self.queue.front() {
            Some(first) if wanted(first) => 0,
            _ => self.queue.iter().position(wanted)?,
        };
        let signo = self.queue[at].signal.signo();
        Some(self.remove_at(at, signo))
    }

    fn take_signal(&mut self, signo: i32) -> Dequeued {
        match self.queue.iter().position(|entry| entry.signal.signo() == signo) {
            Some(at) => self.remove_at(at, signo),
            None => {
                self.set.remove(signo);
                Dequeued::lost(signo)
            }
        }
    }

    #[inline]
    fn remove_at(&mut self, at: usize, signo: i32) -> Dequeued {
        // Mostly it is the only one.
        let removed = if at == 0 { self.queue.pop_front() } else { self.queue.remove(at) };
        if self.queue.is_empty() || !self.queue.iter().any(|other| other.signal.signo() == signo) {
            self.set.remove(signo);
        }
        removed.map_or(Dequeued::lost(signo), |entry| entry.signal)
    }

    /// Forgets these signals.
    pub fn flush(&mut self, signals: SigSet) {
        if self.set.intersection(signals).is_empty() {
            return;
        }
        self.set = self.set.without(signals);
        self.queue.retain(|entry| !signals.contains(entry.signal.signo()));
    }
}

#[cfg(test)]
mod tests;
