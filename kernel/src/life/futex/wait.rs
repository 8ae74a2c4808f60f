//! FUTEX_WAIT and FUTEX_WAIT_BITSET.

use core::pin::{Pin, pin};
use core::slice;

use crate::errno::{Errno, Result};
use crate::life::futex::deadline::{Alarm, Deadline};
use crate::life::futex::key::Key;
use crate::life::futex::queue;
use crate::life::futex::queue::{Role, Waiter};
use crate::memory::access::Access;
use crate::memory::user;
use crate::sched::scheduler;
use crate::sched::state::{INTERRUPTIBLE, RUNNING};
use crate::task::current;
use crate::task::restart::restart_block;
use crate::task::restart::restart_block::set_restart_fn;

/// Sleeps until one of the waiters is called (released or nudged): ETIMEDOUT at the deadline, ERESTARTSYS if a signal comes.
pub fn sleep(waiters: &[Waiter], alarm: &mut Alarm) -> Result<()> {
    let result = loop {
        scheduler::set_state(INTERRUPTIBLE);
        if waiters.iter().any(Waiter::is_called) {
            break Ok(());
        }
        if alarm.has_rung() {
            break Err(Errno::ETIMEDOUT);
        }
        if current().signal_pending() {
            break Err(Errno::ERESTARTSYS);
        }
        scheduler::schedule();
    };
    scheduler::set_state(RUNNING);
    result
}

/// Puts a waiter in its queue if the word at `address` is `expected`; EAGAIN if it is not. `None`: the word could not be
/// read now, but can be.
///
/// # Safety
/// The waiter stays where it is until it is out again.
pub unsafe fn enter(waiter: &Waiter, address: u64, expected: u32) -> Result<Option<()>> {
    let mut list = queue::lock_of(waiter);
    // Whoever changes the word looks at the queue afterwards: it finds the waiter, or the waiter finds the new value.
    match user::load_u32(address) {
        Ok(value) if value == expected => {
            // SAFETY: new, and the caller's.
            unsafe { list.push(waiter) };
            Ok(Some(()))
        }
        Ok(_) => Err(Errno::EAGAIN),
        Err(_) => {
            drop(list);
            user::load_u32(address)?;
            Ok(None)
        }
    }
}

/// ERESTARTSYS if a signal comes first, EAGAIN if the word is not what was expected.
fn wait(address: u64, private: bool, expected: u32, deadline: Deadline, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let mut alarm = Alarm::new(deadline);
    loop {
        let key = Key::new(address, private, Access::Read)?;
        let waiter = pin!(Waiter::new(key, Role::Wake, bitset));
        let waiter = Pin::as_ref(&waiter).get_ref();
        // SAFETY: pinned, and taken out below.
        if unsafe { enter(waiter, address, expected) }?.is_none() {
            continue;
        }
        let result = sleep(slice::from_ref(waiter), &mut alarm);
        let mut list = queue::lock_of(waiter);
        // Whatever else happened, a wake-up that somebody counts on is what is reported.
        if !waiter.is_released() {
            // SAFETY: not taken out by another.
            unsafe { list.remove(waiter) };
            result?;
        }
        return Ok(0);
    }
}

/// [`wait`], restarted if a signal interrupts it: with a deadline by way of `restart_syscall`, as a relative time must not
/// begin again.
pub fn wait_restartable(address: u64, private: bool, expected: u32, deadline: Deadline, bitset: u32) -> Result<usize> {
    let result = wait(address, private, expected, deadline, bitset);
    if result != Err(Errno::ERESTARTSYS) || deadline == Deadline::Never {
        return result;
    }
    let (at, realtime) = match deadline {
        Deadline::Never => (0, 0),
        Deadline::Monotonic(at) => (at, 0),
        Deadline::Realtime(at) => (at, 1),
    };
    let goes_on: fn([u64; 6]) -> Result<usize> = |[address, private, value, at, bitset, realtime]| {
        restart_block::reset_restart_fn();
        let deadline = if realtime != 0 { Deadline::Realtime(at) } else { Deadline::Monotonic(at) };
        wait_restartable(address, private != 0, value as u32, deadline, bitset as u32)
    };
    Err(set_restart_fn(goes_on, [address, private.into(), expected.into(), at, bitset.into(), realtime]))
}
