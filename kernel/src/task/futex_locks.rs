//! What a task keeps for the futexes that are locks whose owner the kernel knows.

use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering::*};

/// What a task keeps for the locks it owns and the one it waits for. Guarded by the futexes' lock of owners.
#[derive(Default)]
pub struct TaskLocks {
    /// Whether its locks may be waited for.
    pub stage: AtomicU8,
    /// How many locks that somebody waits for it owns.
    pub owned: AtomicU32,
    /// Its place in the queue of a lock: a pointer that the futexes alone know the type of.
    pub blocked_on: AtomicPtr<()>,
}

impl TaskLocks {
    /// It owns one more.
    pub fn one_more(&self) {
        self.owned.store(self.owned.load(Relaxed) + 1, Relaxed);
    }

    /// It owns one less.
    pub fn one_less(&self) {
        self.owned.store(self.owned.load(Relaxed) - 1, Relaxed);
    }
}
