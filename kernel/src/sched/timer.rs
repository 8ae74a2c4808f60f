//! What runs at a certain time: one queue of timers for all CPUs, in the order of their deadlines.
//!
//! Each CPU has a one-shot timer ([`arm`]). The rule that keeps a deadline from being missed: for the first timer of the
//! queue, some CPU is armed at or before its deadline. Who adds an earlier one arms itself; who is interrupted arms itself for
//! the first that is left, unless another CPU is armed for it.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::machine::cpu;
use crate::machine::cpu::Cpu;
use crate::machine::cpu::NEVER;
use crate::machine::sync::SpinLock;
use crate::machine::time::{arm, now};

/// How long a thread runs while others wait, in nanoseconds.
pub const SLICE: u64 = 4_000_000;

/// What a CPU gets to run between two timer interrupts, in nanoseconds, however late the next deadline is: a timer that
/// sets itself again faster than the machine can follow must not stop everything else.
const BREATHER: u64 = 20_000;

/// What a timer runs: in interrupt context (interrupts off), on any CPU, with no lock of this module held.
pub type Callback = fn(usize, usize);

/// Names a timer; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId(pub(super) u64);

struct Timer {
    pub deadline: u64,
    pub id: TimerId,
    callback: Callback,
    args: (usize, usize),
}

struct Queue {
    /// The first to run is the last element.
    timers: Vec<Timer>,
    next_id: u64,
}

static QUEUE: SpinLock<Queue> = SpinLock::new(Queue::new());

impl Queue {
    const fn new() -> Queue {
        Queue { timers: Vec::new(), next_id: 0 }
    }

    /// Adds a timer, behind others with its deadline. Says whether it is the first to run.
    fn add(&mut self, deadline: u64, callback: Callback, args: (usize, usize)) -> (TimerId, bool) {
        let id = TimerId(self.next_id);
        self.next_id += 1;
        let place = self.timers.partition_point(|timer| timer.deadline > deadline);
        self.timers.insert(place, Timer { deadline, id, callback, args });
        (id, place + 1 == self.timers.len())
    }

    fn remove(&mut self, id: TimerId) -> bool {
        let place = self.timers.iter().rposition(|timer| timer.id == id);
        place.map(|place| self.timers.remove(place)).is_some()
    }

    /// Takes the next timer whose deadline had come at `time`.
    fn take_due(&mut self, time: u64) -> Option<Timer> {
        self.timers.pop_if(|timer| timer.deadline <= time)
    }
}

/// Makes room for timers: they are added in places that may not allocate. Once, at boot.
pub fn init() {
    QUEUE.lock().timers.reserve(256);
}

/// Runs `callback(arg1, arg2)` at `deadline` (in `now`'s time) or as soon after it as an interrupt can come.
pub fn add_timer(deadline: u64, callback: Callback, arg1: usize, arg2: usize) -> TimerId {
    let mut queue = QUEUE.lock();
    let (id, is_first) = queue.add(deadline, callback, (arg1, arg2));
    if is_first {
        arm(cpu::this(), deadline);
    }
    id
}

/// Takes a timer back. True: it has not run and never will. False: it has run, or is about to on another CPU.
pub fn cancel_timer(id: TimerId) -> bool {
    QUEUE.lock().remove(id)
}

/// This CPU goes from its idle task to another: from now on the scheduler is told every slice, until the CPU is idle
/// again. Interrupts off.
#[inline]
pub fn start_ticking() {
    let cpu = cpu::this();
    if cpu.next_tick.get() == NEVER {
        cpu.next_tick.set(slice_from(now()));
        arm(cpu, cpu.next_tick.get());
    }
}

/// When a slice that begins at `time` ends: up to 65 us early, each a little differently. Ticks sample where a task spends its time;
/// at equal distances a loop that takes a divisor of a slice would be seen at one place for ever.
pub(super) fn slice_from(time: u64) -> u64 {
    /// 2^64 divided by the golden ratio: neighbors are spread evenly over the upper bits.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    time + SLICE - (time.wrapping_mul(SPREAD) >> 48)
}

/// Runs the timers whose deadline had come at `time`, each without the queue's lock. What they add in turn waits for the
/// next interrupt.
pub(super) fn run_due(time: u64) {
    loop {
        let mut queue = QUEUE.lock();
        let Some(timer) = queue.take_due(time) else {
            return;
        };
        drop(queue);
        (timer.callback)(timer.args.0, timer.args.1);
    }
}

/// Arms this CPU for the first timer that is left, unless another is armed for it, and for its tick. Interrupts off.
pub(super) fn arm_next(cpu: &Cpu) {
    let queue = QUEUE.lock();
    let first = queue.timers.last().map_or(NEVER, |timer| timer.deadline);
    let another = cpu::all().any(|other| other.id() != cpu.id() && other.armed.load(Ordering::Relaxed) <= first);
    let deadline = if another { cpu.next_tick.get() } else { first.min(cpu.next_tick.get()) };
    if deadline != NEVER {
        arm(cpu, deadline.max(now() + BREATHER));
    }
}

#[cfg(test)]
mod tests;
