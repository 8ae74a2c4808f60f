//! The word of user memory that a futex is.

use crate::errno::Result;
use crate::memory::user;

/// Makes the word at `address` present, for writing. EFAULT where a program could not write it.
pub fn writable(address: u64) -> Result<()> {
    // Whatever the value is: a locked instruction writes it back.
    user::atomic_cmpxchg_u32(address, 0, 0).map(|_| ())
}
