//! FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI: waiting for a condition, and then for its lock.

use alloc::sync::Arc;
use core::pin::{Pin, pin};
use core::slice;

use crate::errno::{Errno, Result};
use crate::life::futex::deadline::{Alarm, Deadline};
use crate::life::futex::key::Key;
use crate::life::futex::pi::{Attempt, Claim, Trouble};
use crate::life::futex::queue::{Pair, Role, Waiter};
use crate::life::futex::requeue::{Counts, lock_compared};
use crate::life::futex::wait::{enter, sleep};
use crate::life::futex::{pi, queue};
use crate::memory::access::Access;
use crate::memory::user;
use crate::task::Task;

/// Waits until another task has moved the caller to the lock at `address2`, and for that.
pub fn wait(address: u64, private: bool, expected: u32, deadline: Deadline, address2: u64) -> Result<usize> {
    if address == address2 {
        return Err(Errno::EINVAL);
    }
    let mut alarm = Alarm::new(deadline);
    loop {
        let target = Key::new(address2, private, Access::Write)?;
        let key = Key::new(address, private, Access::Read)?;
        if key == target {
            let matches = user::load_u32(address)? == expected;
            return Err(if matches { Errno::EINVAL } else { Errno::EAGAIN });
        }
        let waiter = pin!(Waiter::new(key, Role::Requeue(target), u32::MAX));
        let waiter = Pin::as_ref(&waiter).get_ref();
        // SAFETY: pinned, and `settle` ends when it is out of its list.
        if unsafe { enter(waiter, address, expected) }?.is_some() {
            return wait_entered(waiter, target, address2, &mut alarm);
        }
    }
}

fn wait_entered(waiter: &Waiter, target: Key, address2: u64, alarm: &mut Alarm) -> Result<usize> {
    loop {
        let slept = sleep(slice::from_ref(waiter), alarm);
        let mut list = queue::lock_of(waiter);
        if waiter.is_released() {
            return Ok(0);
        }
        // SAFETY: its bucket is locked.
        if unsafe { waiter.role() } != Role::Lock {
            let Err(errno) = slept else { continue };
            // SAFETY: it is in the list.
            unsafe { list.remove(waiter) };
            return Err(match errno {
                Errno::ERESTARTSYS => Errno::ERESTARTNOINTR,
                errno => errno,
            });
        }
        drop(list);
        match pi::look(waiter, target, address2, slept) {
            None => (),
            Some(Ok(())) => return Ok(0),
            // It has been moved: the call cannot begin again, as the condition's word has another value.
            Some(Err(Errno::ERESTARTSYS)) => return Err(Errno::EAGAIN),
            Some(Err(errno)) => return Err(errno),
        }
    }
}

/// Gives the lock at `to` to the first who waits at `from`, or moves it to the lock's queue; moves more there. Returns how
/// many that were.
pub fn requeue(from: u64, to: u64, private: bool, counts: Counts, expected: u32) -> Result<usize> {
    let (wake, requeue) = counts.checked()?;
    if from == to || wake != 1 {
        return Err(Errno::EINVAL);
    }
    loop {
        let keys = (Key::new(from, private, Access::Read)?, Key::new(to, private, Access::Write)?);
        if keys.0 == keys.1 {
            return Err(Errno::EINVAL);
        }
        // Dropped after the guards of the lists.
        let mut found = None;
        let Some(mut lists) = lock_compared(keys, from, Some(expected))? else {
            continue;
        };
        let trouble = match move_waiters(&mut lists, keys, to, requeue, &mut found) {
            Ok(done) => return Ok(done),
            Err(trouble) => trouble,
        };
        drop(lists);
        drop(found);
        trouble.settle(to)?;
    }
}

fn move_waiters(
    lists: &mut Pair,
    keys: (Key, Key),
    to: u64,
    requeue: usize,
    found: &mut Option<Arc<Task>>,
) -> core::result::Result<usize, Trouble> {
    pi::load(to)?;
    // SAFETY: both lists are locked for as long as waiters are looked at; each is in the first until it is moved.
    unsafe {
        let Some(top) = lists.first().waiters(keys.0).next() else {
            return Ok(0);
        };
        if top.role() != Role::Requeue(keys.1) {
            return Err(Trouble::Failed(Errno::EINVAL));
        }
        let mut done = 0;
        let mut claim = match pi::try_lock(lists.second(), keys.1, to, top.task, requeue != 0, found)? {
            Attempt::Owned(claim) => claim,
            Attempt::Acquired => {
                lists.first().release(top);
                done = 1;
                Claim::of(top.task)
            }
        };
        let mut result = Ok(());
        for waiter in lists.first().waiters(keys.0) {
            if done > requeue {
                break;
            }
            if waiter.role() != Role::Requeue(keys.1) {
                result = Err(Errno::EINVAL);
                break;
            }
            result = pi::block(waiter, &mut claim);
            if result.is_err() {
                break;
            }
            lists.move_over(waiter, keys.1, Role::Lock);
            if claim.owner.is_null() {
                waiter.nudge();
            }
            done += 1;
        }
        claim.give_back();
        result.map(|()| done).map_err(Trouble::Failed)
    }
}
