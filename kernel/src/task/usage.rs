//! CPU time and event counts of processes, and `struct rusage`.

use core::sync::atomic::Ordering::*;

use crate::errno::Result;
use crate::memory::c_long;
use crate::sched::usage::Usage;
use crate::task::process::Process;
use crate::task::tree::tree;

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
pub fn shown_of_process(process: &Process) -> Usage {
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
    utime: Timeval,
    stime: Timeval,
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
        fields[0] = self.utime.seconds;
        fields[1] = self.utime.microseconds;
        fields[2] = self.stime.seconds;
        fields[3] = self.stime.microseconds;
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
            utime: Timeval::from_ns(times.utime),
            stime: Timeval::from_ns(times.stime),
            peak_resident: (usage.peak_resident.load(Relaxed) / 1024) as i64,
            minor_faults: usage.minor_faults.load(Relaxed) as i64,
            voluntary: usage.voluntary.load(Relaxed) as i64,
            involuntary: usage.involuntary.load(Relaxed) as i64,
        }
    }
}
