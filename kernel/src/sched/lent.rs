//! A thread's user registers, for its tracer and for `/proc`.
//!
//! The door holds the registers by `&mut`, and whatever the thread does has them from there. So nobody else may write them, but
//! while the thread does without: [`lend`] publishes where they are for the time of a stop or a wait.

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::Relaxed;

use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use crate::machine::gate::Gate;
use crate::sched::scheduler;
use crate::sched::thread::{Thread, current};

/// Runs `wait`, which does without the current thread's registers, and lends them meanwhile.
#[inline(always)]
pub fn lend<T>(at: &mut InKernel<'_, Gate>, wait: impl FnOnce() -> T) -> T {
    let lent = at.lend_regs();
    let slot = &current().lent.0;
    slot.store(lent.as_ptr().as_ptr(), Relaxed);
    let result = wait();
    slot.store(ptr::null_mut(), Relaxed);
    result
}

/// The registers that a thread has lent: good for reads and writes while it is asleep. None if it has not.
pub fn of(thread: &Thread) -> Option<NonNull<UserRegs>> {
    NonNull::new(thread.lent.0.load(Relaxed))
}

/// The registers of a thread that is asleep, or of the current one, to show: what it has changed in them since it came in may be
/// missing. None if it is not asleep.
pub fn snapshot(thread: &Thread) -> Option<UserRegs> {
    let place = thread.regs();
    // SAFETY: the doors save the registers at the top of the stack, which the reference to the thread keeps. While the thread sleeps,
    // or runs here, nobody writes them; the volatile read makes no reference.
    let read = || unsafe { place.read_volatile() };
    if ptr::eq(thread, current()) { Some(read()) } else { scheduler::while_asleep(thread, read) }
}

/// Calls `call` with the state of the system call that is being made, for calls that change the registers or stop for a tracer.
pub fn with_state<T>(regs: &mut UserRegs, call: impl FnOnce(&mut InKernel<'_, Gate>) -> T) -> T {
    // SAFETY: a system call is being made, with interrupts on; `regs` are its registers, lent by its state for this long.
    let mut at = unsafe { InKernel::assume(regs) };
    let result = call(&mut at);
    at.suspend();
    result
}
