//! FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_TRYLOCK_PI and FUTEX_UNLOCK_PI.

use core::pin::{Pin, pin};
use core::{ptr, slice};

use linux_raw_sys::general::{FUTEX_TID_MASK, FUTEX_WAITERS};

use crate::errno::{Errno, Result};
use crate::life::futex::deadline::{Alarm, Deadline};
use crate::life::futex::key::Key;
use crate::life::futex::pi::{Attempt, Trouble};
use crate::life::futex::queue::{List, Role, Waiter};
use crate::life::futex::wait::sleep;
use crate::life::futex::{pi, queue};
use crate::memory::access::Access;
use crate::memory::user;
use crate::task::current;

/// Gets a lock, or only tries to.
pub fn lock(address: u64, private: bool, deadline: Deadline, try_only: bool) -> Result<usize> {
    let mut alarm = Alarm::new(deadline);
    loop {
        let key = Key::new(address, private, Access::Write)?;
        let waiter = pin!(Waiter::new(key, Role::Lock, u32::MAX));
        let waiter = Pin::as_ref(&waiter).get_ref();
        // Dropped after the guard of the list.
        let mut found = None;
        let mut list = queue::lock(key);
        let trouble = match pi::try_lock(&mut list, key, address, current(), false, &mut found) {
            Ok(Attempt::Acquired) => return Ok(0),
            Ok(Attempt::Owned(claim)) if try_only => {
                claim.give_back();
                return Err(Errno::EAGAIN);
            }
            Ok(Attempt::Owned(mut claim)) => {
                // SAFETY: the bucket of both is locked; pinned, and `look` ends when it is out of the list.
                unsafe {
                    if let Err(errno) = pi::block(waiter, &mut claim) {
                        claim.give_back();
                        return Err(errno);
                    }
                    list.push(waiter);
                }
                drop(list);
                drop(found);
                return wait(waiter, key, address, &mut alarm);
            }
            Err(trouble) => trouble,
        };
        drop(list);
        drop(found);
        trouble.settle(address)?;
    }
}

fn wait(waiter: &Waiter, key: Key, address: u64, alarm: &mut Alarm) -> Result<usize> {
    loop {
        let slept = sleep(slice::from_ref(waiter), alarm);
        match pi::look(waiter, key, address, slept) {
            None => (),
            Some(Ok(())) => return Ok(0),
            // Whoever waits for a lock has no other way to go on.
            Some(Err(Errno::ERESTARTSYS)) => return Err(Errno::ERESTARTNOINTR),
            Some(Err(errno)) => return Err(errno),
        }
    }
}

/// Gives up a lock of the current task: to the first who waits for it.
pub fn unlock(address: u64, private: bool) -> Result<usize> {
    loop {
        let value = user::load_u32(address)?;
        if value & FUTEX_TID_MASK != pi::tid(current()) {
            return Err(Errno::EPERM);
        }
        let key = Key::new(address, private, Access::Write)?;
        let mut list = queue::lock(key);
        let Err(trouble) = hand_over(&mut list, key, address, value) else {
            return Ok(0);
        };
        drop(list);
        trouble.settle(address)?;
    }
}

fn hand_over(list: &mut List, key: Key, address: u64, value: u32) -> core::result::Result<(), Trouble> {
    // SAFETY: the list is locked, `&mut`.
    let Some(top) = (unsafe { list.waiters(key).next() }) else {
        return match pi::exchange(address, value, 0)? == value {
            true => Ok(()),
            false => Err(Trouble::Failed(Errno::EAGAIN)),
        };
    };
    // SAFETY: the bucket is locked.
    let is_ours = unsafe { top.role() == Role::Lock && ptr::eq(top.owner(), current()) };
    if !is_ours {
        return Err(Trouble::Failed(Errno::EINVAL));
    }
    let found = pi::exchange(address, value, FUTEX_WAITERS | pi::tid(top.task))?;
    if found != value {
        // A waiter may have set FUTEX_WAITERS meanwhile; nobody else is to change the word.
        return Err(if found & FUTEX_TID_MASK == value { Trouble::Retry } else { Trouble::Failed(Errno::EINVAL) });
    }
    // SAFETY: it is in the list.
    unsafe { pi::give(list, key, top) };
    Ok(())
}
