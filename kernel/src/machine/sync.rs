//! The kernel's lock: a spin lock that keeps interrupts off while it is held.
//!
//! Interrupts off is a depth, not a flag: the per-CPU `preempt_count` counts locks held and `IrqGuard`s, the first of
//! them turns interrupts off and remembers how they were, the last puts them back. So locks may be dropped in any order,
//! and a lock that is handed over in a context switch is taken with interrupts off already (`sched::scheduler`).
//! While the count is not zero nothing may sleep, touch user memory or return to user mode.

use core::hint::spin_loop;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};

use spin::Once;

#[cfg(not(any(test, fuzzing)))]
use x86_64::instructions::interrupts;

// A process may neither touch the interrupt flag nor halt.
#[cfg(any(test, fuzzing))]
use crate::host::{interrupts, time};
use crate::machine::cpu;

/// A lock around `T`. Interrupts are off and preemption is off while its guard lives.
pub type SpinLock<T> = lock_api::Mutex<RawSpin, T>;
/// The guard of a `SpinLock`.
pub type SpinLockGuard<'a, T> = lock_api::MutexGuard<'a, RawSpin, T>;

/// A processor that spins this long (TSC ticks) rests, if it may. Locks are held for much less.
const PATIENCE_TICKS: u64 = 1 << 16;
/// A processor that spins this long (TSC ticks) reports a deadlock instead of hanging the machine.
const STUCK_TICKS: u64 = 60 << 30;

/// What a CPU does while it spins: answers others, rests.
type WhileSpinning = (fn(), fn());

static WHILE_SPINNING: Once<WhileSpinning> = Once::new();

/// Has `answer` called again and again by whoever spins for a lock, with interrupts off: another CPU may wait for this one to answer
/// an interrupt that it cannot take. At boot, once, before the second CPU runs.
///
/// `rest` halts the CPU for a while, with interrupts on: called now and then where that is allowed.
pub fn while_spinning(answer: fn(), rest: fn()) {
    WHILE_SPINNING.call_once(|| (answer, rest));
}

/// The lock without the data: test and test-and-set.
pub struct RawSpin(AtomicBool);

// SAFETY: `locked` is set by one compare-exchange with acquire and cleared with release by the holder.
unsafe impl lock_api::RawMutex for RawSpin {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: RawSpin = RawSpin(AtomicBool::new(false));
    // The depth it raises is this CPU's.
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        push_off();
        if self.0.swap(true, Ordering::Acquire) {
            self.spin();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        push_off();
        let free = !self.0.swap(true, Ordering::Acquire);
        if !free {
            pop_off();
        }
        free
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
        pop_off();
    }

    fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RawSpin {
    /// The slow path. Interrupts are off, so what another CPU waits for has to be done here: a TLB shootdown whose
    /// sender holds the lock we want would never end.
    ///
    /// Where the caller had interrupts on, a long wait lets them in and halts until the next one. In an emulator or a
    /// virtual machine the holder may be waiting for the host's processor that this CPU burns.
    #[cold]
    fn spin(&self) {
        // SAFETY: RDTSC is available on every x86-64 CPU.
        let ticks = || unsafe { core::arch::x86_64::_rdtsc() };
        let may_rest = preempt_count() == 1 && cpu::this().saved_irq.get();
        let start = ticks();
        let mut rested = start;
        loop {
            while self.0.load(Ordering::Relaxed) {
                let registered = WHILE_SPINNING.get();
                if let Some((answer, _)) = registered {
                    answer();
                }
                spin_loop();
                let now = ticks();
                if may_rest
                    && now.saturating_sub(rested) > PATIENCE_TICKS
                    && let Some((_, rest)) = registered
                {
                    pop_off();
                    rest();
                    push_off();
                    rested = ticks();
                }
                assert!(now.saturating_sub(start) < STUCK_TICKS, "deadlock: spin lock at {self:p}");
            }
            if !self.0.swap(true, Ordering::Acquire) {
                return;
            }
        }
    }
}

/// Turns interrupts off (the first time) and counts.
///
/// An NMI's handler may do the same at any instruction, and count back before it returns. Where it finds the count at zero
/// it writes `saved_irq`, so that is this CPU's only while the count is not zero: written after the count goes up, read
/// before it goes down.
#[inline]
fn push_off() {
    let enabled = interrupts::are_enabled();
    interrupts::disable();
    let cpu = cpu::this();
    let depth = cpu.preempt_count.get();
    cpu.preempt_count.set(depth + 1);
    compiler_fence(Ordering::SeqCst);
    if depth == 0 {
        cpu.saved_irq.set(enabled);
    }
}

/// Counts back, and turns interrupts on again if it was the last and they were on before the first.
#[inline]
fn pop_off() {
    let cpu = cpu::this();
    let depth = cpu.preempt_count.get() - 1;
    let enable = depth == 0 && cpu.saved_irq.get();
    compiler_fence(Ordering::SeqCst);
    cpu.preempt_count.set(depth);
    if enable {
        interrupts::enable();
    }
}

/// How many locks and `IrqGuard`s this CPU holds. Zero: may sleep, may be preempted.
#[inline]
pub fn preempt_count() -> u32 {
    cpu::preempt_count()
}

/// Interrupts and preemption are off while it lives.
pub struct IrqGuard(PhantomData<*mut ()>);

/// Turns interrupts (and so preemption) off on this CPU until the guard is dropped. Nests with locks.
#[inline]
#[must_use = "interrupts come back when the guard is dropped"]
pub fn irqs_off() -> IrqGuard {
    push_off();
    IrqGuard(PhantomData)
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        pop_off();
    }
}

#[cfg(test)]
mod tests;
