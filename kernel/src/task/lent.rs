//! A task's user registers while it waits, for its tracer and for `/proc`.
//!
//! The door holds the registers by `&mut`, and whatever the task does has them from there. So nobody else may access them, but
//! while the task does without: [`lend`] publishes where they are for the time of a wait. Others access them only while the
//! task is asleep. The run-queue lock keeps it asleep, and lets one in at a time; so a task that runs again need not wait for
//! anybody when it takes its registers back.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use super::{Task, current, scheduler};
use crate::gate::Gate;

/// Where a task's registers are while it lends them; null otherwise. Written by the task alone. The run-queue lock orders this
/// for all others: the task takes it to go to sleep.
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

/// The registers that the current task has lent itself.
pub fn read_own() -> Option<UserRegs> {
    let regs = NonNull::new(current().lent.0.load(Relaxed))?;
    // SAFETY: the pointer is there while `lend` has the registers borrowed, so the task does not use them otherwise. Others
    // access them only while it is asleep, and it runs.
    Some(unsafe { regs.read() })
}

/// The registers that a task has lent. None if it has not, or is not asleep.
pub fn read(task: &Task) -> Option<UserRegs> {
    // SAFETY: the pointer is good for reads (`access`).
    access(task, |regs| unsafe { regs.read() })
}

/// Changes the registers that a task has lent. None if it has not, or is not asleep.
pub fn write(task: &Task, new: UserRegs) -> Option<()> {
    // SAFETY: the pointer is good for writes (`access`).
    access(task, |regs| unsafe { regs.write(new) })
}

/// Gives a pointer that is good for reads and writes until `f` returns: the pointer is there while [`lend`] has the registers
/// borrowed, the task does not wake up to take them back while the run-queue lock is held, and everybody else who accesses them
/// holds that lock.
fn access<T>(task: &Task, f: impl FnOnce(NonNull<UserRegs>) -> T) -> Option<T> {
    scheduler::while_asleep(task, || NonNull::new(task.lent.0.load(Relaxed)).map(f))?
}
