//! A task's user registers, for its tracer and for `/proc`.
//!
//! The door holds the registers by `&mut`, and whatever the task does has them from there. So nobody else may write them, but
//! while the task does without: [`lend`] publishes where they are for the time of a stop or a wait.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use crate::machine::gate::Gate;
use crate::sched::scheduler;
use crate::task::{Task, current};

/// Where a task's registers are while it lends them; null otherwise. Written by the task alone. The run-queue lock orders this
/// for all others: the task takes it to go to sleep, and they take it to see that it is asleep.
#[derive(Default)]
pub struct Lent(AtomicPtr<UserRegs>);

/// Runs `wait`, which does without the current task's registers, and lends them meanwhile.
#[inline(always)]
pub fn lend<T>(at: &mut InKernel<'_, Gate>, wait: impl FnOnce() -> T) -> T {
    let lent = at.lend_regs();
    let slot = &current().lent.0;
    slot.store(lent.as_ptr().as_ptr(), Relaxed);
    let result = wait();
    slot.store(ptr::null_mut(), Relaxed);
    result
}

/// The registers that a task has lent: good for reads and writes while it is asleep. None if it has not.
pub fn of(task: &Task) -> Option<NonNull<UserRegs>> {
    NonNull::new(task.lent.0.load(Relaxed))
}

/// The registers of a task that is asleep, or of the current one, to show: what it has changed in them since it came in may be
/// missing. None if it is not asleep.
pub fn snapshot(task: &Task) -> Option<UserRegs> {
    let place = (task.stack.top() - UserRegs::SIZE as u64) as *const UserRegs;
    // SAFETY: the doors save the registers at the top of the stack, which the reference to the task keeps. While the task sleeps,
    // or runs here, nobody writes them; the volatile read makes no reference.
    let read = || unsafe { place.read_volatile() };
    if ptr::eq(task, current()) { Some(read()) } else { scheduler::while_asleep(task, read) }
}

/// Calls `call` with the state of the system call that is being made, for calls that change the registers or stop for a tracer.
pub fn with_state<T>(regs: &mut UserRegs, call: impl FnOnce(&mut InKernel<'_, Gate>) -> T) -> T {
    // SAFETY: a system call is being made, with interrupts on; `regs` are its registers, lent by its state for this long.
    let mut at = unsafe { InKernel::assume(regs) };
    let result = call(&mut at);
    at.suspend();
    result
}
