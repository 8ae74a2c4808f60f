//! getrusage(2) and times(2). What is counted is [`task::usage`](crate::task::usage).

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD};

use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::c_long;
use crate::sched::usage::Usage;
use crate::task::current;
use crate::task::usage::{Rusage, of_process, shown_of_process};

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

/// Clock ticks per second that times(2) counts in (USER_HZ).
const USER_HZ: u64 = 100;

/// times(2).
pub fn sys_times(address: u64) -> Result<usize> {
    let ticks = |ns: u64| (ns / (1_000_000_000 / USER_HZ)) as i64;
    if address != 0 {
        let process = &current().process;
        let times = of_process(process).times();
        let children = process.children_usage.times();
        let tms = [ticks(times.utime), ticks(times.stime), ticks(children.utime), ticks(children.stime)];
        c_long::write(address, tms)?;
    }
    Ok(ticks(time::now()) as usize)
}
