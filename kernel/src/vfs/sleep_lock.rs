//! A lock whose holder may sleep and touch user memory: what serialises whole reads and writes.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::sched::wait::WaitQueue;

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep in the queue.
const CONTENDED: u32 = 2;

/// A mutual-exclusion lock. Not for interrupt context.
pub struct SleepLock<T> {
    state: AtomicU32,
    waiters: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one guard at a time, so sharing it is sending the value from holder to holder.
unsafe impl<T: Send> Sync for SleepLock<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for SleepLock<T> {}

impl<T> SleepLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        SleepLock { state: AtomicU32::new(FREE), waiters: WaitQueue::new(), value: UnsafeCell::new(value) }
    }

    /// Waits until it is free and takes it. Signals do not end the wait: holders are in the middle of one transfer.
    pub fn lock(&self) -> SleepGuard<'_, T> {
        if self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Taken as CONTENDED: whoever slept beside us has to be woken when we are done.
            self.waiters.wait_uninterruptible(|| (self.state.swap(CONTENDED, Ordering::Acquire) == FREE).then_some(()));
        }
        SleepGuard { lock: self }
    }
}

/// The right to use the value; gives the lock back when dropped.
pub struct SleepGuard<'a, T> {
    lock: &'a SleepLock<T>,
}

impl<T> Deref for SleepGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SleepGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only one.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SleepGuard<'_, T> {
    fn drop(&mut self) {
        if self.lock.state.swap(FREE, Ordering::Release) == CONTENDED {
            self.lock.waiters.wake_one();
        }
    }
}
