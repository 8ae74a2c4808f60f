//! A task's user registers while it waits, for its tracer and for `/proc`.
//!
//! The door holds the registers by `&mut`, and whatever the task does has them from there. So nobody else may access them, but
//! while the task does without: [`lend`] publishes where they are for the time of a wait.

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use super::current;
use crate::gate::Gate;

/// Where a task's registers are while it lends them; null otherwise. Written by the task alone.
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
