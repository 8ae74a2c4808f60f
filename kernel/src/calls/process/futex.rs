//! futex(2), futex_waitv(2), and the lists of robust futexes. The operations are [`life::futex`](crate::life::futex) and
//! [`life::robust`](crate::life::robust).

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::life::futex::deadline::Deadline;
use crate::life::futex::requeue::Counts;
use crate::life::futex::{lock, requeue, requeue_pi, wait, waitv, wake};
use crate::life::robust;
use crate::machine::time;
use crate::memory::{Width, c_long, frames, user};
use crate::task::clock::Timespec;
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;

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
        FUTEX_WAIT => wait::wait_restartable(address, private, value, deadline, u32::MAX),
        FUTEX_WAIT_BITSET => wait::wait_restartable(address, private, value, deadline, value3),
        FUTEX_WAKE => wake::wake(address, private, count, u32::MAX),
        FUTEX_WAKE_BITSET => wake::wake(address, private, count, value3),
        FUTEX_WAKE_OP => wake::wake_op(address, address2, private, (count, count2), value3),
        FUTEX_REQUEUE => requeue::requeue(address, address2, private, counts, None),
        FUTEX_CMP_REQUEUE => requeue::requeue(address, address2, private, counts, Some(value3)),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => lock::lock(address, private, deadline, false),
        FUTEX_TRYLOCK_PI => lock::lock(address, private, Deadline::Never, true),
        FUTEX_UNLOCK_PI => lock::unlock(address, private),
        FUTEX_WAIT_REQUEUE_PI => requeue_pi::wait(address, private, value, deadline, address2),
        FUTEX_CMP_REQUEUE_PI => requeue_pi::requeue(address, address2, private, counts, value3),
        _ => Err(Errno::ENOSYS),
    }
}

/// Most words of one call (FUTEX_WAITV_MAX).
const MAX_WORDS: usize = 128;
/// FUTEX_32: the word has 32 bits. No other size is supported.
const SIZE_32: u32 = 2;

/// `struct futex_waitv`: the same in both widths.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct FutexWaitv {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Reads a `struct futex_waitv`.
fn read_word(address: u64) -> Result<waitv::Word> {
    let word: FutexWaitv = user::read(address)?;
    let known = word.flags & !(SIZE_32 | FUTEX_PRIVATE_FLAG) == 0;
    if !known || word.flags & SIZE_32 == 0 || word.reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let private = word.flags & FUTEX_PRIVATE_FLAG != 0;
    Ok(waitv::Word { address: word.address, expected: word.value as u32, private })
}

/// futex_waitv(2): returns the index of a word that was woken.
pub fn sys_futex_waitv(words: u64, count: u64, flags: u64, timeout: u64, clock: u64) -> Result<usize> {
    let count = count as u32 as usize;
    if flags as u32 != 0 || !(1..=MAX_WORDS).contains(&count) || words == 0 {
        return Err(Errno::EINVAL);
    }
    let mut deadline = Deadline::Never;
    if timeout != 0 {
        let clock = clock as u32;
        if clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC {
            return Err(Errno::EINVAL);
        }
        let at = Timespec::read(Width::Bits64, timeout)?.to_ns()?;
        deadline = if clock == CLOCK_REALTIME { Deadline::Realtime(at) } else { Deadline::Monotonic(at) };
    }
    frames::require_spare()?;
    let words = (0..count as u64)
        .map(|n| {
            let address = words.checked_add(n * size_of::<FutexWaitv>() as u64);
            read_word(address.ok_or(Errno::EFAULT)?)
        })
        .collect::<Result<Vec<waitv::Word>>>()?;
    waitv::wait(&words, deadline)
}

/// set_robust_list(2).
pub fn sys_set_robust_list(head: u64, len: u64) -> Result<usize> {
    let width = Width::of_call();
    if len != robust::head_size(width) {
        return Err(Errno::EINVAL);
    }
    robust::list(current(), width).store(head, Relaxed);
    Ok(0)
}

/// get_robust_list(2).
pub fn sys_get_robust_list(tid: u64, head: u64, len: u64) -> Result<usize> {
    let width = Width::of_call();
    let address = match tid as Pid {
        0 => robust::list(current(), width).load(Relaxed),
        tid => robust::of_other(meant(tid), width)?,
    };
    c_long::write_unsigned(len, [robust::head_size(width)])?;
    c_long::write_unsigned(head, [address])?;
    Ok(0)
}
