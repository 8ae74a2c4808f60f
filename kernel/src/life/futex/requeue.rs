//! FUTEX_REQUEUE and FUTEX_CMP_REQUEUE.

use crate::errno::{Errno, Result};
use crate::life::futex::key::Key;
use crate::life::futex::queue::{Pair, Role};
use crate::memory::access::Access;
use crate::memory::user;

/// How many waiters a requeue wakes, and how many more it moves.
#[derive(Clone, Copy)]
pub struct Counts {
    pub wake: i32,
    pub requeue: i32,
}

impl Counts {
    /// EINVAL if one is negative.
    pub fn checked(self) -> Result<(usize, usize)> {
        if self.wake < 0 || self.requeue < 0 {
            return Err(Errno::EINVAL);
        }
        Ok((self.wake as usize, self.requeue as usize))
    }
}

/// Locks the buckets of two words, with the first word read and found to be `expected`; EAGAIN if it is not. `None`: it could
/// not be read now, but can be.
pub fn lock_compared(keys: (Key, Key), address: u64, expected: Option<u32>) -> Result<Option<Pair>> {
    let lists = Pair::lock(keys.0, keys.1);
    let Some(expected) = expected else {
        return Ok(Some(lists));
    };
    match user::load_u32(address) {
        Ok(value) if value == expected => Ok(Some(lists)),
        Ok(_) => Err(Errno::EAGAIN),
        Err(_) => {
            drop(lists);
            user::load_u32(address)?;
            Ok(None)
        }
    }
}

/// Wakes waiters of one word and moves more to another, if the first still has the value `expected`. Returns how many it
/// woke and moved.
pub fn requeue(from: u64, to: u64, private: bool, counts: Counts, expected: Option<u32>) -> Result<usize> {
    let (wake, requeue) = counts.checked()?;
    loop {
        let keys = (Key::new(from, private, Access::Read)?, Key::new(to, private, Access::Read)?);
        let Some(mut lists) = lock_compared(keys, from, expected)? else {
            continue;
        };
        let mut done = 0;
        // SAFETY: both lists are locked; each waiter is in the first.
        unsafe {
            for waiter in lists.first().waiters(keys.0) {
                if done == wake.saturating_add(requeue) {
                    break;
                }
                if waiter.role() != Role::Wake {
                    return Err(Errno::EINVAL);
                }
                if done < wake {
                    lists.first().release(waiter);
                } else if keys.0 != keys.1 {
                    lists.move_over(waiter, keys.1, Role::Wake);
                }
                done += 1;
            }
        }
        return Ok(done);
    }
}
