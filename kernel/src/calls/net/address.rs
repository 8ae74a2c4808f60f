//! `struct sockaddr` in user memory.

use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::vfs::buffer::Source;

/// Bytes of the longest address (`struct sockaddr_storage`).
pub const MAX_LEN: usize = 128;

/// Reads the address of `len` bytes there.
pub fn read(address: u64, len: u32) -> Result<Vec<u8>> {
    if len as usize > MAX_LEN {
        return Err(Errno::EINVAL);
    }
    Source::user(address, len.into()).take_all(MAX_LEN)
}

/// Writes what fits of an address, and its whole length where the room is: the word at `len`.
pub fn write(address: u64, len: u64, bytes: &[u8]) -> Result<()> {
    let room: i32 = user::read(len)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    user::write(address, &bytes[..bytes.len().min(room)])?;
    user::write(len, &(bytes.len() as u32))
}
