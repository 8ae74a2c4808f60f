//! Nice value and scheduling class: kept for the calls that ask; of the class one thing counts.

use core::sync::atomic::{AtomicI32, Ordering::*};

use linux_raw_sys::general::{SCHED_BATCH, SCHED_IDLE};

/// As set.
#[derive(Default)]
pub struct Policy {
    /// −20 … 19.
    pub nice: AtomicI32,
    /// `SCHED_*`.
    pub class: AtomicI32,
    /// 1 to 99 of a real-time class, 0 of any other.
    pub priority: AtomicI32,
}

impl Policy {
    /// Whether it may take another thread's CPU when it wakes up: not with SCHED_BATCH or SCHED_IDLE.
    pub fn preempts(&self) -> bool {
        !matches!(self.class.load(Relaxed) as u32, SCHED_BATCH | SCHED_IDLE)
    }

    /// The priority of a real-time class, 0 of any other.
    pub fn priority(&self) -> i32 {
        self.priority.load(Relaxed)
    }

    /// A child's, with the parent's values.
    pub fn copy_from(&self, other: &Policy) {
        self.nice.store(other.nice.load(Relaxed), Relaxed);
        self.class.store(other.class.load(Relaxed), Relaxed);
        self.priority.store(other.priority.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_batch_and_idle_wait_for_others() {
        let preempts = |policy| {
            let parent = Policy::default();
            parent.class.store(policy, Relaxed);
            let child = Policy::default();
            child.copy_from(&parent);
            child.preempts()
        };
        assert_eq!([0, 1, 2, 3, 5].map(preempts), [true, true, true, false, false]);
    }
}
