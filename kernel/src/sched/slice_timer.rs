//! The end of an extended slice: at its time the thread is rescheduled, wherever it is.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering::*};

use portcullis::work::ExitWork;

use crate::sched::thread::{Thread, current};
use crate::sched::timer::{self, TimerId};

/// The timer of a thread. Touched by the thread and by the switch that takes it off its CPU.
#[derive(Default)]
pub struct SliceTimer(
    /// The timer's number and 1, also when it has run; 0 if there is none.
    AtomicU64,
);

impl SliceTimer {
    /// Whether it was armed and not cancelled.
    pub fn is_armed(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Has the current thread, whose timer this is, rescheduled at `deadline`. It is not armed, and interrupts are off.
    pub fn arm(&self, deadline: u64) {
        let thread = current();
        // Counted back by whoever sees to it that the timer never runs again: until then the thread is kept.
        thread.timeouts.fetch_add(1, Relaxed);
        let TimerId(number) = timer::add_timer(deadline, expire, ptr::from_ref(thread) as usize, 0);
        self.0.store(number + 1, Relaxed);
    }

    /// The timer of that thread does not run any more, or has run.
    pub fn cancel(&self, thread: &Thread) {
        if let Some(number) = self.0.swap(0, Relaxed).checked_sub(1)
            && timer::cancel_timer(TimerId(number))
        {
            thread.timeouts.fetch_sub(1, Release);
        }
    }
}

/// The timer's part.
fn expire(thread: usize, _: usize) {
    // SAFETY: a thread that has ended is kept until all its timers are counted back.
    let thread = unsafe { &*(thread as *const Thread) };
    thread.raise(ExitWork::NEED_RESCHED);
    thread.timeouts.fetch_sub(1, Release);
}
