//! The clock and each CPU's one-shot timer.
//!
//! One clock: the time-stamp counter, whose rate `calibration` measures at boot. What is to happen at a certain time is queued in
//! [`sched::timer`](crate::sched::timer).

use core::sync::atomic::{AtomicU64, Ordering};

use portcullis::x86_64::halt::wait_for_interrupt;
use spin::Once;
use x86_64::instructions::interrupts;

use crate::machine::calibration::ticks;
use crate::machine::cpu::Cpu;
use crate::machine::{apic, calibration, cpu, rtc};

const SECOND: u64 = 1_000_000_000;

/// The longest wait that the local APIC's timer is set for, in nanoseconds: at any rate below 2 GHz it fits.
const LONGEST_WAIT: u64 = i32::MAX as u64;

/// `nanoseconds = (ticks - base) * scale >> 32`.
struct Clock {
    base: u64,
    scale: u64,
    /// Real time, in nanoseconds since 1970, when the monotonic clock was 0.
    epoch: AtomicU64,
}

static CLOCK: Once<Clock> = Once::new();

/// Ticks of the local APIC's timer per nanosecond, times 2^31; less than 2^32. 0 before the clocks run.
static APIC_RATE: AtomicU64 = AtomicU64::new(0);

/// Starts the clocks. `pm_timer` is the port of ACPI's PM timer. Once, on the boot processor, with its local APIC on, interrupts off.
pub fn init(pm_timer: Option<u16>) {
    let rates = calibration::measure(pm_timer);
    APIC_RATE.store(rates.apic, Ordering::Relaxed);
    let clock = CLOCK.call_once(|| Clock { base: rates.base, scale: rates.tsc, epoch: AtomicU64::new(0) });
    clock.epoch.store((rtc::seconds() * SECOND).saturating_sub(now()), Ordering::Relaxed);
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
        // The timer's counter has 32 bits; a longer wait is done in parts.
        let wait = deadline.saturating_sub(now()).min(LONGEST_WAIT);
        // Rounded up, and never 0, which would stop the timer.
        let ticks = ((wait * APIC_RATE.load(Ordering::Relaxed)) >> 31) + 1;
        apic::set_timer(ticks as u32);
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
