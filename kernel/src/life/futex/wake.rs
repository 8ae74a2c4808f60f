//! FUTEX_WAKE, FUTEX_WAKE_BITSET and FUTEX_WAKE_OP.

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::life::futex::key::Key;
use crate::life::futex::queue;
use crate::life::futex::queue::{List, Pair, Role};
use crate::life::futex::word::writable;
use crate::memory::access::Access;
use crate::memory::user;

/// Takes out and wakes up to `count` waiters. EINVAL if one of those on the way waits for a lock.
pub fn wake_listed(list: &mut List, key: Key, count: usize, bitset: u32) -> Result<usize> {
    let mut woken = 0;
    // SAFETY: the list is locked, `&mut`; each waiter is in it.
    unsafe {
        for waiter in list.waiters(key) {
            if waiter.role() != Role::Wake {
                return Err(Errno::EINVAL);
            }
            if waiter.bitset & bitset != 0 {
                list.release(waiter);
                woken += 1;
                if woken == count {
                    break;
                }
            }
        }
    }
    Ok(woken)
}

/// Wakes up to `count` waiters, and one even if `count` is less.
pub fn wake(address: u64, private: bool, count: i32, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::new(address, private, Access::Read)?;
    wake_listed(&mut queue::lock(key), key, at_least_one(count), bitset)
}

fn at_least_one(count: i32) -> usize {
    count.max(1) as usize
}

/// What FUTEX_WAKE_OP does to the second word, and for which old values it wakes waiters of that.
pub struct Operation {
    operation: u32,
    argument: u32,
    comparison: u32,
    compared: i32,
}

impl Operation {
    /// The fields of the call's last argument.
    pub fn new(encoded: u32) -> Operation {
        // Sign-extended 12-bit fields.
        let (argument, compared) = ((encoded as i32) << 8 >> 20, (encoded as i32) << 20 >> 20);
        let shifted = encoded >> 28 & FUTEX_OP_OPARG_SHIFT != 0;
        Operation {
            operation: encoded >> 28 & 7,
            argument: if shifted { 1 << (argument & 31) } else { argument as u32 },
            comparison: encoded >> 24 & 15,
            compared,
        }
    }

    /// The word's new value. ENOSYS for an operation that there is not.
    pub fn apply(&self, old: u32) -> Result<u32> {
        match self.operation {
            FUTEX_OP_SET => Ok(self.argument),
            FUTEX_OP_ADD => Ok(old.wrapping_add(self.argument)),
            FUTEX_OP_OR => Ok(old | self.argument),
            FUTEX_OP_ANDN => Ok(old & !self.argument),
            FUTEX_OP_XOR => Ok(old ^ self.argument),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Whether the old value is one that wakes. ENOSYS for a comparison that there is not.
    pub fn wakes(&self, old: u32) -> Result<bool> {
        let (old, compared) = (old as i32, self.compared);
        Ok(match self.comparison {
            FUTEX_OP_CMP_EQ => old == compared,
            FUTEX_OP_CMP_NE => old != compared,
            FUTEX_OP_CMP_LT => old < compared,
            FUTEX_OP_CMP_LE => old <= compared,
            FUTEX_OP_CMP_GT => old > compared,
            FUTEX_OP_CMP_GE => old >= compared,
            _ => return Err(Errno::ENOSYS),
        })
    }

    /// Changes the word. Returns what it was; EFAULT if that could not be now.
    fn change(&self, address: u64) -> Result<u32> {
        // An operation that there is not touches no memory.
        self.apply(0)?;
        let mut old = user::load_u32(address)?;
        loop {
            let seen = user::atomic_cmpxchg_u32(address, old, self.apply(old)?)?;
            if seen == old {
                return Ok(old);
            }
            old = seen;
        }
    }
}

/// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and of the second if its old value says so.
pub fn wake_op(first: u64, second: u64, private: bool, counts: (i32, i32), encoded: u32) -> Result<usize> {
    let operation = Operation::new(encoded);
    loop {
        let first_key = Key::new(first, private, Access::Read)?;
        let second_key = Key::new(second, private, Access::Write)?;
        let mut lists = Pair::lock(first_key, second_key);
        let old = match operation.change(second) {
            Err(Errno::EFAULT) => {
                drop(lists);
                writable(second)?;
                continue;
            }
            old => old?,
        };
        let wakes_second = operation.wakes(old)?;
        let mut woken = wake_listed(lists.first(), first_key, at_least_one(counts.0), u32::MAX)?;
        if wakes_second {
            woken += wake_listed(lists.second(), second_key, at_least_one(counts.1), u32::MAX)?;
        }
        return Ok(woken);
    }
}

#[cfg(test)]
mod tests;
