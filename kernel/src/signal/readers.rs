//! Who reads signals from descriptors ([`signalfd`](super::signalfd)), and is told when one is sent.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::sched::wait::WaitQueue;

/// Everybody who reads or polls a signalfd, whatever process and signals. There are few, and each looks for itself.
pub(super) static READERS: WaitQueue = WaitQueue::new();
/// How many signalfds there are: without one, sending does not look at [`READERS`].
pub(super) static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A signal has become pending somewhere. From any context.
pub fn notify() {
    if OPEN.load(Relaxed) != 0 {
        READERS.wake_all();
    }
}
