//! Clocks and timers.
//!
//! One clock: the time-stamp counter, measured once against the local APIC's timer, whose rate is known. One queue of
//! timers for all CPUs, in the order of their deadlines; each CPU has a one-shot timer. The rule that keeps a deadline
//! from being missed: for the first timer of the queue, some CPU is armed at or before its deadline. Who adds an earlier
//! one arms itself; who is interrupted arms itself for the first that is left, unless another CPU is armed for it.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use portcullis::x86_64::halt::wait_for_interrupt;
use x86_64::instructions::interrupts;

use crate::machine::cpu::Cpu;
use crate::machine::sync::{Once, SpinLock};
use crate::machine::{apic, cpu, rtc};
use crate::sched::scheduler;
use crate::sched::scheduler::SLICE;
use crate::sched::wait::WaitQueue;

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;
const SECOND: u64 = 1_000_000_000;

/// What a CPU gets to run between two timer interrupts, in nanoseconds, however late the next deadline is: a timer that
/// sets itself again faster than the machine can follow must not stop everything else.
const BREATHER: u64 = 20_000;

/// How long the boot processor measures the time-stamp counter.
const CALIBRATION: u64 = 1_000_000;

/// `nanoseconds = (ticks - base) * scale >> 32`.
struct Clock {
    base: u64,
    scale: u64,
    /// Real time, in nanoseconds since 1970, when the monotonic clock was 0.
    epoch: AtomicU64,
}

static CLOCK: Once<Clock> = Once::new();

fn ticks() -> u64 {
    // SAFETY: RDTSC is available on every x86-64 CPU.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A reading of both counters that lie close together: (time-stamp counter, nanoseconds left).
fn sample() -> (u64, u64) {
    (0..8)
        .map(|_| {
            let before = ticks();
            let left = apic::timer_left();
            let after = ticks();
            (after - before, (before + (after - before) / 2, u64::from(left)))
        })
        .min()
        .map_or((0, 0), |(_, reading)| reading)
}

/// Starts the clocks. Once, on the boot processor, with its local APIC on.
pub fn init() {
    const { assert!(apic::TIMER_HZ == SECOND) };
    apic::set_timer(u32::MAX);
    let (first_ticks, first_left) = sample();
    while first_left - u64::from(apic::timer_left()) < CALIBRATION {
        core::hint::spin_loop();
    }
    let (last_ticks, last_left) = sample();
    apic::set_timer(0);
    let nanoseconds = u128::from(first_left - last_left);
    let scale = ((nanoseconds << 32) / u128::from(last_ticks - first_ticks)) as u64;
    let clock = CLOCK.call_once(|| Clock { base: first_ticks, scale, epoch: AtomicU64::new(0) });
    clock.epoch.store((rtc::seconds() * SECOND).saturating_sub(now()), Ordering::Relaxed);
    // Timers are added in places that may not allocate; the queue starts with room for all that is usual.
    QUEUE.lock().timers.reserve(256);
    log::info!("time-stamp counter: {} kHz", ((SECOND / 1000) << 32) / scale.max(1));
}

/// Nanoseconds since boot; never goes back.
#[inline]
pub fn now() -> u64 {
    CLOCK.get().map_or(0, |clock| {
        let ticks = ticks().saturating_sub(clock.base);
        ((u128::from(ticks) * u128::from(clock.scale)) >> 32) as u64
    })
}

/// Nanoseconds since 1970-01-01 00:00 UTC.
pub fn realtime() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.epoch.load(Ordering::Relaxed)) + now()
}

/// Base, scale and epoch of the clock, for the vDSO.
pub fn parameters() -> (u64, u64, u64) {
    CLOCK.get().map_or((0, 0, 0), |clock| (clock.base, clock.scale, clock.epoch.load(Ordering::Relaxed)))
}

/// What [`set_realtime`] tells.
static ON_SET: Once<fn()> = Once::new();

/// Has `update` called when the real-time clock is set. At boot, once.
pub fn on_set(update: fn()) {
    ON_SET.call_once(|| update);
}

/// Sets the real-time clock.
pub fn set_realtime(nanoseconds: u64) {
    if let Some(clock) = CLOCK.get() {
        clock.epoch.store(nanoseconds.saturating_sub(now()), Ordering::Relaxed);
        if let Some(update) = ON_SET.get() {
            update();
        }
    }
    WATCHERS.wake_all();
}

/// Nanoseconds from the start of 1970 to that of the monotonic clock: changes when the real-time clock is set.
pub fn realtime_offset() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.epoch.load(Ordering::Relaxed))
}

/// Those who sleep until a clock shows a certain time. Woken when the real-time clock is set, too.
pub static WATCHERS: WaitQueue = WaitQueue::new();

/// A [`Callback`] that wakes [`WATCHERS`].
pub fn wake_watchers(_: usize, _: usize) {
    WATCHERS.wake_all();
}

/// Spins.
pub fn spin(nanoseconds: u64) {
    let deadline = now() + nanoseconds;
    while now() < deadline {
        core::hint::spin_loop();
    }
}

/// What a timer runs: in interrupt context (interrupts off), on any CPU, with no lock of this module held.
pub type Callback = fn(usize, usize);

/// Names a timer; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId(u64);

struct Timer {
    deadline: u64,
    id: TimerId,
    callback: Callback,
    args: (usize, usize),
}

struct Queue {
    /// The first to run is the last element.
    timers: Vec<Timer>,
    next_id: u64,
}

static QUEUE: SpinLock<Queue> = SpinLock::new(Queue { timers: Vec::new(), next_id: 0 });

/// Arms this CPU for `deadline`, unless it is armed for an earlier one (that interrupt will look again). Interrupts off.
fn arm(cpu: &Cpu, deadline: u64) {
    if deadline < cpu.armed.load(Ordering::Relaxed) {
        cpu.armed.store(deadline, Ordering::Relaxed);
        // The counter has 32 bits, a little over four seconds; a longer wait is done in parts.
        let wait = deadline.saturating_sub(now()).clamp(1, u64::from(u32::MAX));
        apic::set_timer(wait as u32);
    }
}

/// Runs `callback(arg1, arg2)` at `deadline` (in `now`'s time) or as soon after it as an interrupt can come.
pub fn add_timer(deadline: u64, callback: Callback, arg1: usize, arg2: usize) -> TimerId {
    let mut queue = QUEUE.lock();
    let id = TimerId(queue.next_id);
    queue.next_id += 1;
    let place = queue.timers.partition_point(|timer| timer.deadline > deadline);
    queue.timers.insert(place, Timer { deadline, id, callback, args: (arg1, arg2) });
    if place + 1 == queue.timers.len() {
        arm(cpu::this(), deadline);
    }
    id
}

/// Takes a timer back. True: it has not run and never will. False: it has run, or is about to on another CPU.
pub fn cancel_timer(id: TimerId) -> bool {
    let mut queue = QUEUE.lock();
    let place = queue.timers.iter().rposition(|timer| timer.id == id);
    place.map(|place| queue.timers.remove(place)).is_some()
}

/// Halts this CPU until the next interrupt, which comes soon. Interrupts on, no lock held.
pub fn rest() {
    const SOON: u64 = 200_000;
    interrupts::disable();
    arm(cpu::this(), now() + SOON);
    // SAFETY: ordinary kernel code, and interrupts were on.
    unsafe { wait_for_interrupt() };
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
fn slice_from(time: u64) -> u64 {
    /// 2^64 divided by the golden ratio: neighbors are spread evenly over the upper bits.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    time + SLICE - (time.wrapping_mul(SPREAD) >> 48)
}

/// The timer interrupt, on every CPU: runs what is due, tells the scheduler, arms the CPU again. `from_user`: it came
/// from user mode.
pub fn tick(from_user: bool) {
    let cpu = cpu::this();
    // Before the queue is looked at: see the rule above.
    cpu.armed.store(NEVER, Ordering::Relaxed);
    let time = now();
    run_due(time);
    if cpu.next_tick.get() <= time {
        scheduler::tick(from_user);
        cpu.next_tick.set(if scheduler::busy() { slice_from(time) } else { NEVER });
    }
    let queue = QUEUE.lock();
    let first = queue.timers.last().map_or(NEVER, |timer| timer.deadline);
    let another = cpu::all().any(|other| other.id() != cpu.id() && other.armed.load(Ordering::Relaxed) <= first);
    let deadline = if another { cpu.next_tick.get() } else { first.min(cpu.next_tick.get()) };
    if deadline != NEVER {
        arm(cpu, deadline.max(now() + BREATHER));
    }
}

/// Runs the timers whose deadline had come at `time`, each without the queue's lock. What they add in turn waits for the
/// next interrupt.
fn run_due(time: u64) {
    loop {
        let mut queue = QUEUE.lock();
        let Some(timer) = queue.timers.pop_if(|timer| timer.deadline <= time) else {
            return;
        };
        drop(queue);
        (timer.callback)(timer.args.0, timer.args.1);
    }
}
