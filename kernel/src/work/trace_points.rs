//! Trace points: the library's ring of events, one per CPU, shown by `/dev/trace`.
//!
//! `on`, `off`, `on TID` and `off TID` are written to the device, as to `/dev/audit`. Each line that is read is one event:
//! time in nanoseconds, CPU, thread, event, value.
//!
//! In a kernel built with `--cfg portcullis_trace` (`./x trace`) the rings hold every crossing instead, and the kernel's log
//! ends with them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use portcullis::trace::Event;
use portcullis::x86_64::UserRegs;
use portcullis_trace::{Record, Ring};

use crate::machine::cpu::MAX_CPUS;
use crate::machine::{cpu, log, sync, time};
use crate::task::{Task, current};

/// Whether every crossing is recorded.
const CROSSINGS: bool = cfg!(portcullis_trace);

/// How many events each CPU keeps.
const CAPACITY: usize = if CROSSINGS { 1 << 15 } else { 1 << 10 };

static RINGS: [Ring<CAPACITY>; MAX_CPUS] = [const { Ring::new() }; MAX_CPUS];

/// Adds an event of the current task.
pub fn record(event: Event, value: u64) {
    // The ring is this CPU's.
    let _irqs = sync::irqs_off();
    RINGS[cpu::id()].push(Record { time: time::now(), event, task: current().tid() as u32, value });
}

/// Whether the first program is about to start: before that there is nothing to see.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts to record crossings.
pub fn start() {
    STARTED.store(true, Relaxed);
}

/// The library's hook: the ring gets every event.
#[inline(always)]
pub fn crossing(event: Event, value: u64) {
    if CROSSINGS && STARTED.load(Relaxed) {
        record(event, value);
    }
}

/// The CPU goes over to another task.
#[inline(always)]
pub fn switch(next: &Task) {
    crossing(Event::Switch, next.tid() as u64);
}

/// A task has got its name.
pub fn named(task: &Task) {
    if CROSSINGS {
        let name = task.comm();
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        log::tell(&alloc::format!("trace: name {} {}", task.tid(), String::from_utf8_lossy(name)));
    }
}

/// The end: all that was recorded, and how much was lost, goes to the host.
pub fn tell(out: &mut dyn Write) {
    if CROSSINGS {
        STARTED.store(false, Relaxed);
        for (cpu, ring) in RINGS.iter().enumerate() {
            let lost = ring.count().saturating_sub(CAPACITY as u64);
            // The port takes everything.
            let _ = writeln!(out, "trace: lost {cpu} {lost}");
        }
        for line in text().lines() {
            let _ = writeln!(out, "trace: {line}");
        }
    }
}

/// The hook at entry.
pub fn trace_sys_enter(number: i64) {
    record(Event::SyscallEnter, number as u64);
}

/// The hook at exit.
pub fn trace_sys_exit(regs: &UserRegs) {
    record(Event::SyscallExit, regs.rax);
}

/// What the device shows: all CPUs' events in the order of their times.
pub fn text() -> String {
    // Each ring is in the order of its times.
    let mut rings: Vec<_> = RINGS.iter().map(|ring| ring.since(0).map(|(_, record)| record).peekable()).collect();
    let mut text = String::new();
    while let Some((_, cpu)) =
        rings.iter_mut().enumerate().filter_map(|(cpu, ring)| Some((ring.peek()?.time, cpu))).min()
        && let Some(Record { time, event, task, value }) = rings[cpu].next()
    {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{time} {cpu} {task} {} {}", event.name(), value as i64);
    }
    text
}
