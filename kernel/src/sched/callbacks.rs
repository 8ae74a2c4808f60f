//! What layers above have done at the points that only the scheduler knows. They register it once, at boot.

use spin::Once;

use crate::sched::thread::SwitchWork;
use crate::sched::thread::Thread;

/// What is called, with the threads that it is about.
pub trait Callbacks: Sync {
    /// `prev` gives its CPU to `next`, and has something in [`Thread::on_switch_out`]. Interrupts are off, the run-queue lock is held.
    fn switched_out(&self, prev: &Thread, next: &Thread);

    /// `prev` gives its CPU to `next`, and one of them has work of this kind that is not the scheduler's. Likewise.
    fn switch(&self, work: SwitchWork, prev: &Thread, next: &Thread);

    /// The CPU goes over to `next`. Likewise; called only in a kernel that records every crossing.
    fn record_switch(&self, next: &Thread);

    /// The timer interrupt has come, and a slice of the current thread's is over. In interrupt context, and only while
    /// [`TICK_WATCHERS`](crate::sched::scheduler::TICK_WATCHERS) is not 0.
    fn tick(&self, current: &Thread);

    /// Whether the current thread is to end: what interrupts sleeps that no other signal does.
    fn is_being_killed(&self, current: &Thread) -> bool;

    /// The current thread has run what it starts with, and is about to enter user mode for the first time. Interrupts on.
    fn before_user_mode(&self);
}

static CALLBACKS: Once<&'static dyn Callbacks> = Once::new();

/// Sets them. At boot, once, before the first switch.
pub fn register(callbacks: &'static dyn Callbacks) {
    CALLBACKS.call_once(|| callbacks);
}

/// Those that are registered.
#[inline]
pub(super) fn callbacks() -> &'static dyn Callbacks {
    *CALLBACKS.get().expect("registered before the first switch")
}
