//! What names a futex.

use core::ptr;

use crate::errno::{Errno, Result};
use crate::memory::access::Access;
use crate::memory::address_space::current_mm;
use crate::memory::contents::Identity;
use crate::memory::user;

/// Where a word is, for everybody who means the same word by it. Two calls meet where their keys are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// An address space or an object of shared memory.
    space: u64,
    /// The word in it. Words are aligned, so the lowest bits are free: they tell the three kinds of keys apart.
    place: u64,
}

/// Shared memory: the place is an offset in the object.
const IN_OBJECT: u64 = 1;
/// Private memory, named without FUTEX_PRIVATE_FLAG.
const IN_OWN_MEMORY: u64 = 2;

impl Key {
    /// The key of the word at `address`. With FUTEX_PRIVATE_FLAG the address alone is the name and the memory need not be
    /// there. Without it the page is made present: for writing where that is possible, and it has to be possible if
    /// `access` says so.
    pub fn new(address: u64, private: bool, access: Access) -> Result<Key> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !user::is_user_range(address, 4) {
            return Err(Errno::EFAULT);
        }
        let mm = current_mm();
        let space = ptr::from_ref(mm) as u64;
        if private {
            return Ok(Key { space, place: address });
        }
        Ok(match mm.identity(address, access)? {
            Identity::Own => Key { space, place: address | IN_OWN_MEMORY },
            Identity::Shared { object, offset } => Key { space: object, place: offset | IN_OBJECT },
        })
    }

    /// Which of `count` (a power of two) lists it belongs to.
    pub fn hash(self, count: usize) -> usize {
        // Fibonacci hashing: the upper bits of the product are well mixed.
        let mixed = (self.space >> 4 ^ self.place >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (count - 1)
    }
}

#[cfg(test)]
mod tests;
