//! The timer interrupt: timers that have run out, and the end of a slice.

use core::sync::atomic::Ordering;

use crate::machine::cpu;
use crate::machine::cpu::NEVER;
use crate::machine::time::now;
use crate::sched::{scheduler, timer};

/// The timer interrupt, on every CPU: runs what is due, tells the scheduler, arms the CPU again. `from_user`: it came
/// from user mode.
pub fn tick(from_user: bool) {
    let cpu = cpu::this();
    // Before the queue is looked at: see the rule in `timer`.
    cpu.armed.store(NEVER, Ordering::Relaxed);
    let time = now();
    timer::run_due(time);
    if cpu.next_tick.get() <= time {
        scheduler::tick(from_user);
        cpu.next_tick.set(if scheduler::busy() { timer::slice_from(time) } else { NEVER });
    }
    timer::arm_next(cpu);
}
