//! Taking a signal that is pending.

use crate::signal::posix_timers;
use crate::task::current;
use crate::task::signals::info::SigInfo;
use crate::task::signals::pending::Dequeued;
use crate::task::signals::set::SigSet;

/// Takes a signal of `set` that is pending for the current task or its process, blocked or not.
pub fn take_pending(set: SigSet) -> Option<SigInfo> {
    let task = current();
    let taken = {
        let mut shared = task.process.signals.lock();
        let mut signals = task.signals.lock();
        let others = SigSet(!set.0);
        let taken = signals.pending.take(others).or_else(|| shared.pending.take(others));
        signals.recalculate(task, &shared);
        taken
    };
    taken.map(settle)
}

/// The information of a signal that was taken. A POSIX timer goes on from here, and says how often it ran out meanwhile; no lock is
/// held.
pub fn settle(taken: Dequeued) -> SigInfo {
    match taken.timer {
        Some(setting) => posix_timers::dequeued(taken.info, setting),
        None => taken.info,
    }
}
