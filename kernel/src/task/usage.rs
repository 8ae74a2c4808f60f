//! CPU time and event counts: `times`, `getrusage`, CPU-time clocks.

use core::sync::atomic::{AtomicU64, Ordering::*};

use linux_raw_sys::general::{RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD};

use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::c_long;
use crate::task::current;
use crate::task::process::{Process, tree};

/// What a thread, or all ended threads, or all waited-for children, have used.
///
/// The total is exact (from switch to switch). How it divides into user and kernel is sampled by the tick, as in Linux
/// without virtual CPU accounting.
#[derive(Default)]
pub struct Usage {
    /// While the task is off its CPU, or for a sum: the total. While it runs: the total less the time at which it came onto
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
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

impl Usage {
    /// The task leaves its CPU; `runnable` if it would have gone on.
    #[inline]
    pub fn switched_out(&self, now: u64, runnable: bool) {
        // By the clock of the CPU that it came on by: not less than nothing.
        let total = self.total.load(Relaxed).wrapping_add(now);
        debug_assert!(total as i64 >= 0, "a CPU's clock went backwards");
        self.total.store(total, Relaxed);
        let count = if runnable { &self.involuntary } else { &self.voluntary };
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// The task is on a CPU from now on.
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
        // Read after the word: a task that has just come onto its CPU has not run before that.
        core::sync::atomic::fence(Acquire);
        // This CPU's clock may differ by a little from that of the one it runs on: never less than nothing.
        (time::now().wrapping_add(word) as i64).max(0) as u64
    }

    /// The total, divided as the ticks fell. A task that no tick has seen counts as all user.
    pub fn times(&self) -> Times {
        let total = self.total();
        let (user, system) = (self.user_ticks.load(Relaxed), self.system_ticks.load(Relaxed));
        let in_system = match user + system {
            0 => 0,
            ticks => (u128::from(total) * u128::from(system) / u128::from(ticks)) as u64,
        };
        Times { user: total - in_system, system: in_system }
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

/// What all threads of a process have used, ended ones included.
pub fn of_process(process: &Process) -> Usage {
    let sum = Usage::default();
    let tree = tree();
    // Under the lock under which a thread that ends goes over to the process's.
    sum.add(&process.usage);
    if let Some(node) = tree.node_of(process) {
        node.threads.iter().for_each(|thread| sum.add(&thread.usage));
    }
    sum
}

/// As `getrusage` shows it: with the memory that the process has now.
fn shown_of_process(process: &Process) -> Usage {
    let sum = of_process(process);
    if let Some(thread) = process.threads().first() {
        sum.peak_resident.fetch_max(thread.mm().peak_resident(), Relaxed);
    }
    sum
}

/// What a process and the children that it has waited for have used: what is told to who waits for it.
pub fn with_children(process: &Process) -> Usage {
    let sum = shown_of_process(process);
    sum.add(&process.children_usage);
    sum
}

#[derive(Clone, Copy, Default)]
struct Timeval {
    seconds: i64,
    microseconds: i64,
}

impl Timeval {
    fn from_ns(ns: u64) -> Self {
        Timeval { seconds: (ns / 1_000_000_000) as i64, microseconds: (ns % 1_000_000_000 / 1000) as i64 }
    }
}

/// `struct rusage`.
#[derive(Clone, Copy, Default)]
pub struct Rusage {
    user: Timeval,
    system: Timeval,
    /// In KiB.
    peak_resident: i64,
    minor_faults: i64,
    voluntary: i64,
    involuntary: i64,
}

impl Rusage {
    /// Writes the structure, which is all longs; those that are not kept are zero.
    pub fn write(&self, address: u64) -> Result<()> {
        const PEAK_RESIDENT: usize = 4;
        const MINOR_FAULTS: usize = 8;
        const VOLUNTARY: usize = 16;
        const INVOLUNTARY: usize = 17;
        let mut fields = [0; 18];
        fields[0] = self.user.seconds;
        fields[1] = self.user.microseconds;
        fields[2] = self.system.seconds;
        fields[3] = self.system.microseconds;
        fields[PEAK_RESIDENT] = self.peak_resident;
        fields[MINOR_FAULTS] = self.minor_faults;
        fields[VOLUNTARY] = self.voluntary;
        fields[INVOLUNTARY] = self.involuntary;
        c_long::write(address, fields)
    }
}

impl From<&Usage> for Rusage {
    fn from(usage: &Usage) -> Self {
        let times = usage.times();
        Rusage {
            user: Timeval::from_ns(times.user),
            system: Timeval::from_ns(times.system),
            peak_resident: (usage.peak_resident.load(Relaxed) / 1024) as i64,
            minor_faults: usage.minor_faults.load(Relaxed) as i64,
            voluntary: usage.voluntary.load(Relaxed) as i64,
            involuntary: usage.involuntary.load(Relaxed) as i64,
        }
    }
}

/// getrusage(2).
pub fn sys_getrusage(who: u64, address: u64) -> Result<usize> {
    let task = current();
    let usage = match who as i32 {
        who if who == RUSAGE_SELF as i32 => Rusage::from(&shown_of_process(&task.process)),
        RUSAGE_CHILDREN => Rusage::from(&task.process.children_usage),
        who if who == RUSAGE_THREAD as i32 => {
            let usage = Usage::default();
            usage.add(&task.usage);
            // Memory is the process's.
            usage.peak_resident.store(shown_of_process(&task.process).peak_resident.into_inner(), Relaxed);
            Rusage::from(&usage)
        }
        _ => return Err(Errno::EINVAL),
    };
    usage.write(address)?;
    Ok(0)
}

/// Clock ticks per second that `times` counts in (USER_HZ).
const USER_HZ: u64 = 100;

/// times(2).
pub fn sys_times(address: u64) -> Result<usize> {
    let ticks = |ns: u64| (ns / (1_000_000_000 / USER_HZ)) as i64;
    if address != 0 {
        let process = &current().process;
        let own = of_process(process).times();
        let children = process.children_usage.times();
        let tms = [ticks(own.user), ticks(own.system), ticks(children.user), ticks(children.system)];
        c_long::write(address, tms)?;
    }
    Ok(ticks(time::now()) as usize)
}
