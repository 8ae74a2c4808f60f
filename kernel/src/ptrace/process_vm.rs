//! Copying between the memory of the current process and that of another, as process_vm_readv(2) asks for it.

use crate::errno::Result;
use crate::memory::access::Access;
use crate::memory::address_space::AddressSpace;
use crate::memory::user;

/// A range of user memory (`struct iovec`).
pub struct Vector {
    pub base: u64,
    pub len: u64,
}

/// The most bytes of one call (MAX_RW_COUNT).
const MAX_BYTES: u64 = 0x7fff_f000;
/// How much is copied at once.
const CHUNK: usize = 4096;

/// Copies from `remote`, ranges of `mm`, to `local`, ranges of the current process, or with [`Access::Write`] the other way.
/// Returns the number of bytes, which an error after the first does not change.
pub fn transfer(mm: &AddressSpace, local: &[Vector], remote: &[Vector], access: Access) -> Result<usize> {
    let mut local = Cursor::new(local);
    let mut done = 0;
    for vector in remote {
        let mut at = vector.base;
        let end = vector.base.saturating_add(vector.len);
        while at < end && done < MAX_BYTES && local.left() {
            let len = (end - at).min(CHUNK as u64 - at % CHUNK as u64).min(MAX_BYTES - done);
            match piece(mm, at, len as usize, &mut local, access) {
                Ok(len) => {
                    at += len as u64;
                    done += len as u64;
                }
                Err(_) if done != 0 => return Ok(done as usize),
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(done as usize)
}

/// Copies up to `len` bytes within one page at `at`.
fn piece(mm: &AddressSpace, at: u64, len: usize, local: &mut Cursor<'_>, access: Access) -> Result<usize> {
    let mut buffer = [0u8; CHUNK];
    let (base, len) = local.next(len);
    if access == Access::Read {
        mm.copy_out(at, &mut buffer[..len])?;
        // SAFETY: the buffer has at least `len` bytes.
        unsafe { user::copy_to_user(base, buffer.as_ptr(), len) }?;
    } else {
        // SAFETY: the buffer has room for `len` bytes.
        unsafe { user::copy_from_user(buffer.as_mut_ptr(), base, len) }?;
        mm.copy_in(at, &buffer[..len])?;
    }
    local.advance(len);
    Ok(len)
}

/// A place in a list of vectors.
struct Cursor<'a> {
    vectors: &'a [Vector],
    offset: u64,
}

impl<'a> Cursor<'a> {
    fn new(vectors: &'a [Vector]) -> Self {
        let mut cursor = Cursor { vectors, offset: 0 };
        cursor.skip_empty();
        cursor
    }

    fn skip_empty(&mut self) {
        while let [first, rest @ ..] = self.vectors
            && self.offset == first.len
        {
            self.vectors = rest;
            self.offset = 0;
        }
    }

    /// Whether there is room.
    fn left(&self) -> bool {
        !self.vectors.is_empty()
    }

    /// The next place, and how many of `len` bytes go there.
    fn next(&self, len: usize) -> (u64, usize) {
        self.vectors.first().map_or((0, 0), |vector| {
            let room = (vector.len - self.offset).min(len as u64);
            (vector.base.wrapping_add(self.offset), room as usize)
        })
    }

    fn advance(&mut self, len: usize) {
        self.offset += len as u64;
        self.skip_empty();
    }
}
