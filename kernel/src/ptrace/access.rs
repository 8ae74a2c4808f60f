//! Who may look at another process, and its memory: process_vm_readv and process_vm_writev.

use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::memory::access::Access;
use crate::memory::address_space::AddressSpace;
use crate::memory::{Width, c_long, user};
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::tree;

/// `struct iovec`.
struct Vector {
    base: u64,
    len: u64,
}

/// The most vectors of one call.
const MAX_VECTORS: u64 = 1024;
/// The most bytes of one call (MAX_RW_COUNT).
const MAX_BYTES: u64 = 0x7fff_f000;
/// How much is copied at once.
const CHUNK: usize = 4096;

fn read_vectors(address: u64, count: u64) -> Result<Vec<Vector>> {
    if count > MAX_VECTORS {
        return Err(Errno::EINVAL);
    }
    let size = 2 * Width::of_call().word() as u64;
    (0..count)
        .map(|n| {
            let [base, len] = c_long::read_unsigned(address.wrapping_add(n * size))?;
            if len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            Ok(Vector { base, len })
        })
        .collect()
}

/// process_vm_readv(2).
pub fn sys_process_vm_readv(pid: u64, local: u64, locals: u64, remote: u64, remotes: u64, flags: u64) -> Result<usize> {
    transfer(pid, (local, locals), (remote, remotes), flags, Access::Read)
}

/// process_vm_writev(2).
pub fn sys_process_vm_writev(
    pid: u64,
    local: u64,
    locals: u64,
    remote: u64,
    remotes: u64,
    flags: u64,
) -> Result<usize> {
    transfer(pid, (local, locals), (remote, remotes), flags, Access::Write)
}

fn transfer(pid: u64, local: (u64, u64), remote: (u64, u64), flags: u64, access: Access) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = read_vectors(local.0, local.1)?;
    if local.iter().all(|vector| vector.len == 0) {
        return Ok(0);
    }
    let remote = read_vectors(remote.0, remote.1)?;
    if remote.iter().all(|vector| vector.len == 0) {
        return Ok(0);
    }
    let task = tree::find_task(meant(pid as Pid)).ok_or(Errno::ESRCH)?;
    crate::task::credentials::access::check(&task)?;
    let mm = task.mm();
    let mut local = Cursor::new(&local);
    let mut done = 0;
    for vector in &remote {
        let mut at = vector.base;
        let end = vector.base.saturating_add(vector.len);
        while at < end && done < MAX_BYTES && local.left() {
            let len = (end - at).min(CHUNK as u64 - at % CHUNK as u64).min(MAX_BYTES - done);
            match piece(&mm, at, len as usize, &mut local, access) {
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
        // SAFETY: as above.
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
