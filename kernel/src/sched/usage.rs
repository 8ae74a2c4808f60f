//! CPU time and event counts of a thread, and sums of them.

use core::sync::atomic::{AtomicU64, Ordering::*};

use crate::machine::time;

/// What a thread, or all ended threads, or all waited-for children, have used.
///
/// The total is exact (from switch to switch). How it divides into user and kernel is sampled by the tick, as in Linux
/// without virtual CPU accounting.
#[derive(Default)]
pub struct Usage {
    /// While the thread is off its CPU, or for a sum: the total. While it runs: the total less the time at which it came onto
    /// its CPU, which is negative. One word, so that nobody sees half of a switch.
    total: AtomicU64,
    user_ticks: AtomicU64,
    system_ticks: AtomicU64,
    /// Page faults served without and with reading.
    pub minor_faults: AtomicU64,
    /// Slept of its own accord.
    pub voluntary: AtomicU64,
    /// Had to make way.
    pub involuntary: AtomicU64,
    /// The most bytes of memory that were present at once in an address space that was left: of a process, not of a thread.
    pub peak_resident: AtomicU64,
}

/// A moment's sums. Nanoseconds.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// In user mode.
    pub utime: u64,
    /// In the kernel.
    pub stime: u64,
}

impl Usage {
    /// The thread leaves its CPU; `runnable` if it would have gone on.
    #[inline]
    pub fn switched_out(&self, now: u64, runnable: bool) {
        // By the clock of the CPU that it came on by: not less than nothing.
        let total = self.total.load(Relaxed).wrapping_add(now);
        debug_assert!(total as i64 >= 0, "a CPU's clock went backwards");
        self.total.store(total, Relaxed);
        let count = if runnable { &self.involuntary } else { &self.voluntary };
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// The thread is on a CPU from now on.
    #[inline]
    pub fn switched_in(&self, now: u64) {
        let total = self.total.load(Relaxed);
        self.total.store(total.wrapping_sub(now), Relaxed);
    }

    /// The tick's sample.
    pub fn tick(&self, from_user: bool) {
        if from_user { &self.user_ticks } else { &self.system_ticks }.fetch_add(1, Relaxed);
    }

    /// CPU time used so far, in nanoseconds.
    pub fn total(&self) -> u64 {
        let word = self.total.load(Relaxed);
        if word as i64 >= 0 {
            return word;
        }
        // Read after the word: a thread that has just come onto its CPU has not run before that.
        core::sync::atomic::fence(Acquire);
        // This CPU's clock may differ by a little from that of the one it runs on: never less than nothing.
        (time::now().wrapping_add(word) as i64).max(0) as u64
    }

    /// The total, divided as the ticks fell. A thread that no tick has seen counts as all user.
    pub fn times(&self) -> Times {
        let total = self.total();
        let (user, system) = (self.user_ticks.load(Relaxed), self.system_ticks.load(Relaxed));
        let stime = match user + system {
            0 => 0,
            ticks => (u128::from(total) * u128::from(system) / u128::from(ticks)) as u64,
        };
        Times { utime: total - stime, stime }
    }

    /// Adds what another one has used.
    pub fn add(&self, other: &Usage) {
        self.total.fetch_add(other.total(), Relaxed);
        for (to, from) in [
            (&self.user_ticks, &other.user_ticks),
            (&self.system_ticks, &other.system_ticks),
            (&self.minor_faults, &other.minor_faults),
            (&self.voluntary, &other.voluntary),
            (&self.involuntary, &other.involuntary),
        ] {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        self.peak_resident.fetch_max(other.peak_resident.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_switch_to_switch() {
        let usage = Usage::default();
        usage.switched_in(1000);
        usage.switched_out(1500, true);
        usage.switched_in(2000);
        usage.switched_out(2010, false);
        assert_eq!(usage.total(), 510);
        assert_eq!((usage.involuntary.load(Relaxed), usage.voluntary.load(Relaxed)), (1, 1));
    }

    #[test]
    fn a_total_is_divided_as_the_ticks_fell() {
        let usage = Usage::default();
        usage.switched_in(0);
        usage.switched_out(1000, false);
        assert_eq!((usage.times().utime, usage.times().stime), (1000, 0), "no tick has seen it");
        for from_user in [true, false, false, false] {
            usage.tick(from_user);
        }
        assert_eq!((usage.times().utime, usage.times().stime), (250, 750));
    }

    #[test]
    fn sums_add_and_peaks_do_not() {
        let (sum, one) = (Usage::default(), Usage::default());
        one.switched_in(0);
        one.switched_out(100, false);
        one.minor_faults.store(3, Relaxed);
        one.peak_resident.store(4096, Relaxed);
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.total(), sum.minor_faults.load(Relaxed)), (200, 6));
        assert_eq!((sum.peak_resident.load(Relaxed), sum.voluntary.load(Relaxed)), (4096, 2));
    }
}
