//! Futexes: sleeping on a word of user memory.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know which words are the same futex | [`key`] |
//! | follow a waiter into a list and out of it | [`queue`] |
//! | wait, wake, move waiters | [`wait`], [`waitv`], [`wake()`], [`requeue`] |
//! | know who owns a lock that others wait for | [`pi`]: the state; [`lock`], [`requeue_pi`]: the operations |
//!
//! A word is read, compared and changed with the lock of its queue held. So a waiter that enters the queue has seen the
//! word's value, and whoever changes the word and wakes finds the waiter.

mod deadline;
mod key;
mod lock;
pub mod pi;
mod queue;
mod requeue;
mod requeue_pi;
mod wait;
pub mod waitv;
mod wake;
mod word;

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::life::futex::deadline::Deadline;
use crate::life::futex::requeue::Counts;
use crate::machine::time;
use crate::memory::Width;
use crate::task::clock::Timespec;

/// Wakes up to `count` waiters of a word, as FUTEX_WAKE does without FUTEX_PRIVATE_FLAG. For the kernel itself.
pub fn wake(address: u64, count: i32) {
    // There is nobody to tell of an error.
    let _ = crate::life::futex::wake::wake(address, false, count, u32::MAX);
}

/// The deadline of a wait: FUTEX_WAIT counts from now, the others name a time of a clock.
fn deadline(width: Width, address: u64, command: u32, realtime: bool) -> Result<Deadline> {
    let has_timeout =
        matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI | FUTEX_LOCK_PI2);
    if address == 0 || !has_timeout {
        return Ok(Deadline::Never);
    }
    let ns = Timespec::read(width, address)?.to_ns()?;
    Ok(match command {
        FUTEX_WAIT => Deadline::Monotonic(time::now().saturating_add(ns)),
        _ if realtime || command == FUTEX_LOCK_PI => Deadline::Realtime(ns),
        _ => Deadline::Monotonic(ns),
    })
}

/// futex(2).
pub fn sys_futex(address: u64, op: u64, value: u64, timeout: u64, address2: u64, value3: u64) -> Result<usize> {
    futex(Width::Bits64, address, op, value, timeout, address2, value3)
}

/// futex(2) with a `timespec` of this width.
pub fn futex(
    width: Width,
    address: u64,
    op: u64,
    value: u64,
    timeout: u64,
    address2: u64,
    value3: u64,
) -> Result<usize> {
    let op = op as u32;
    let private = op & FUTEX_PRIVATE_FLAG != 0;
    let realtime = op & FUTEX_CLOCK_REALTIME != 0;
    let command = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let deadline = deadline(width, timeout, command, realtime)?;
    if realtime && !matches!(command, FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    let (value, value3) = (value as u32, value3 as u32);
    // Counts are `int`.
    let (count, count2) = (value as i32, timeout as i32);
    let counts = Counts { wake: count, requeue: count2 };
    match command {
        FUTEX_WAIT => crate::life::futex::wait::wait_restartable(address, private, value, deadline, u32::MAX),
        FUTEX_WAIT_BITSET => crate::life::futex::wait::wait_restartable(address, private, value, deadline, value3),
        FUTEX_WAKE => crate::life::futex::wake::wake(address, private, count, u32::MAX),
        FUTEX_WAKE_BITSET => crate::life::futex::wake::wake(address, private, count, value3),
        FUTEX_WAKE_OP => crate::life::futex::wake::wake_op(address, address2, private, (count, count2), value3),
        FUTEX_REQUEUE => crate::life::futex::requeue::requeue(address, address2, private, counts, None),
        FUTEX_CMP_REQUEUE => crate::life::futex::requeue::requeue(address, address2, private, counts, Some(value3)),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => crate::life::futex::lock::lock(address, private, deadline, false),
        FUTEX_TRYLOCK_PI => crate::life::futex::lock::lock(address, private, Deadline::Never, true),
        FUTEX_UNLOCK_PI => crate::life::futex::lock::unlock(address, private),
        FUTEX_WAIT_REQUEUE_PI => crate::life::futex::requeue_pi::wait(address, private, value, deadline, address2),
        FUTEX_CMP_REQUEUE_PI => crate::life::futex::requeue_pi::requeue(address, address2, private, counts, value3),
        _ => Err(Errno::ENOSYS),
    }
}
