//! What a thread does, or waits for: one bit each but the first.

/// On a CPU or in the run queue.
pub const RUNNING: u32 = 0;
/// Asleep until woken or signalled.
pub const INTERRUPTIBLE: u32 = 1;
/// Asleep until woken.
pub const UNINTERRUPTIBLE: u32 = 2;
/// Stopped by a job-control signal.
pub const STOPPED: u32 = 4;
/// Stopped for a tracer.
pub const TRACED: u32 = 8;
/// Asleep until woken or killed.
pub const KILLABLE: u32 = 0x10;
/// Ended; never runs again.
pub const DEAD: u32 = 0x20;
/// Not started yet.
pub const NEW: u32 = 0x40;

/// What [`wake`](crate::sched::scheduler::wake) wakes.
pub const NORMAL: u32 = INTERRUPTIBLE | UNINTERRUPTIBLE | KILLABLE;
