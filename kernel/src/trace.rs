//! Trace points: the library's ring of events, one per CPU, shown by `/dev/trace`.
//!
//! `on`, `off`, `on TID` and `off TID` are written to the device, as to `/dev/audit`. Each line that is read is one event:
//! time in nanoseconds, CPU, thread, event, value.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use portcullis::trace::{Event, Record, Ring};
use portcullis::x86_64::UserRegs;

use crate::cpu::{self, MAX_CPUS};
use crate::task::current;
use crate::{sync, time};

/// How many events each CPU keeps.
const CAPACITY: usize = 1024;

static RINGS: [Ring<CAPACITY>; MAX_CPUS] = [const { Ring::new() }; MAX_CPUS];

/// Adds an event of the current task.
pub fn record(event: Event, value: u64) {
    // The ring is this CPU's.
    let _irqs = sync::irqs_off();
    RINGS[cpu::id()].push(Record {
        time: time::now(),
        event,
        task: current().tid() as u32,
        value,
    });
}

/// The hook at entry.
pub fn sys_enter(number: i64) {
    record(Event::SyscallEnter, number as u64);
}

/// The hook at exit.
pub fn sys_exit(regs: &UserRegs) {
    record(Event::SyscallExit, regs.rax);
}

/// What the device shows: all CPUs' events in the order of their times.
pub fn text() -> String {
    let mut records: Vec<(usize, Record)> = RINGS
        .iter()
        .enumerate()
        .flat_map(|(cpu, ring)| ring.since(0).map(move |(_, record)| (cpu, record)))
        .collect();
    records.sort_by_key(|(_, record)| record.time);
    let mut text = String::new();
    for (cpu, record) in records {
        let Record {
            time,
            event,
            task,
            value,
        } = record;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{time} {cpu} {task} {} {}", event.name(), value as i64);
    }
    text
}
