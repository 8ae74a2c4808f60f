//! The clock and each CPU's one-shot timer.
//!
//! One clock: the time-stamp counter, measured once against the local APIC's timer, whose rate is known. What is to happen at a
//! certain time is queued in [`sched::timer`](crate::sched::timer).

use core::sync::atomic::{AtomicU64, Ordering};

use portcullis::x86_64::halt::wait_for_interrupt;
use spin::Once;
use x86_64::instructions::interrupts;

use crate::machine::cpu::Cpu;
use crate::machine::{apic, cpu, rtc};

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;
const SECOND: u64 = 1_000_000_000;

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
}

/// Nanoseconds from the start of 1970 to that of the monotonic clock: changes when the real-time clock is set.
pub fn realtime_offset() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.epoch.load(Ordering::Relaxed))
}

/// Spins.
pub fn spin(nanoseconds: u64) {
    let deadline = now() + nanoseconds;
    while now() < deadline {
        core::hint::spin_loop();
    }
}

/// Arms this CPU for `deadline`, unless it is armed for an earlier one (that interrupt will look again). Interrupts off.
pub fn arm(cpu: &Cpu, deadline: u64) {
    if deadline < cpu.armed.load(Ordering::Relaxed) {
        cpu.armed.store(deadline, Ordering::Relaxed);
        // The counter has 32 bits, a little over four seconds; a longer wait is done in parts.
        let wait = deadline.saturating_sub(now()).clamp(1, u64::from(u32::MAX));
        apic::set_timer(wait as u32);
    }
}

/// Halts this CPU until the next interrupt, which comes soon. Interrupts on, no lock held.
pub fn rest() {
    const SOON: u64 = 200_000;
    interrupts::disable();
    arm(cpu::this(), now() + SOON);
    // SAFETY: ordinary kernel code, and interrupts were on.
    unsafe { wait_for_interrupt() };
}
