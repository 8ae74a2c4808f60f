//! Sleeping until the real-time clock shows a certain time, which may change.

use crate::machine::time;
use crate::sched::wait::WaitQueue;

/// Those who sleep until a clock shows a certain time. Woken when the real-time clock is set, too.
pub static WATCHERS: WaitQueue = WaitQueue::new();

/// A [`Callback`](crate::sched::timer::Callback) that wakes [`WATCHERS`].
pub fn wake_watchers(_: usize, _: usize) {
    WATCHERS.wake_all();
}

/// Sets the real-time clock, and lets those look again who wait for it.
pub fn set_realtime(nanoseconds: u64) {
    time::set_realtime(nanoseconds);
    WATCHERS.wake_all();
}
