//! `flock`, and the locks of `fcntl`.

use alloc::sync::Arc;

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::memory::{frames, user};
use crate::task::current;
use crate::task::pid::numbers::seen;
use crate::vfs::file::File;
use crate::vfs::locks::{Lock, Owner, RELEASED, conflicting, try_lock, unlock};

/// `flock`.
pub fn sys_flock(fd: u64, operation: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let operation = operation as u32;
    if operation & abi::LOCK_MAND != 0 {
        // Mandatory locks once were; the request is still accepted.
        return Ok(0);
    }
    let mut lock = Lock {
        inode: file.inode_key(),
        owner: Owner::OpenFile(Arc::as_ptr(&file) as usize),
        whole_file: true,
        exclusive: false,
        start: 0,
        end: u64::MAX,
        pid: current().process.pid,
    };
    match operation & !abi::LOCK_NB {
        abi::LOCK_UN => {
            unlock(&lock);
            return Ok(0);
        }
        abi::LOCK_SH => (),
        abi::LOCK_EX => lock.exclusive = true,
        _ => return Err(Errno::EINVAL),
    }
    if operation & abi::LOCK_NB != 0 {
        try_lock(&lock).ok_or(Errno::EAGAIN)?;
    } else {
        // A lock that is changed is given up first: two that want to upgrade do not wait for each other.
        unlock(&lock);
        RELEASED.wait_until(|| try_lock(&lock))?;
    }
    Ok(0)
}

/// `struct flock`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    len: i64,
    pid: i32,
    padding_end: u32,
}

/// How `struct flock` lies in user memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FlockLayout {
    /// The 64-bit table's.
    Native,
    /// i386's `struct flock`: 32-bit start and length.
    Short,
    /// i386's `struct flock64`: 64-bit ones, without padding before them.
    Long,
}

impl Flock {
    fn read(layout: FlockLayout, address: u64) -> Result<Flock> {
        if layout == FlockLayout::Native {
            return user::read(address);
        }
        let [kind, whence]: [i16; 2] = user::read(address)?;
        let (start, len, pid) = match layout {
            FlockLayout::Short => {
                let [start, len, pid]: [i32; 3] = user::read(address + 4)?;
                (start.into(), len.into(), pid)
            }
            _ => {
                let [start, len]: [i64; 2] = user::read(address + 4)?;
                (start, len, user::read(address + 20)?)
            }
        };
        Ok(Flock { kind, whence, padding: 0, start, len, pid, padding_end: 0 })
    }

    /// EOVERFLOW for a range that does not fit in the layout.
    fn write(&self, layout: FlockLayout, address: u64) -> Result<()> {
        if layout == FlockLayout::Native {
            return user::write(address, self);
        }
        user::write(address, &[self.kind, self.whence])?;
        if layout == FlockLayout::Short {
            let short = |long: i64| i32::try_from(long).map_err(|_| Errno::EOVERFLOW);
            return user::write(address + 4, &[short(self.start)?, short(self.len)?, self.pid]);
        }
        user::write(address + 4, &[self.start, self.len])?;
        user::write(address + 20, &self.pid)
    }

    /// The range it means, from first byte to past the last.
    fn range(&self, file: &File) -> Result<(u64, u64)> {
        let base = match self.whence as u32 {
            abi::SEEK_SET => 0,
            abi::SEEK_CUR => file.seek(0, abi::SEEK_CUR)? as i64,
            abi::SEEK_END => file.inode().metadata().size as i64,
            _ => return Err(Errno::EINVAL),
        };
        let at = base.checked_add(self.start).ok_or(Errno::EOVERFLOW)?;
        let (start, end) = match self.len {
            0 => (at, i64::MAX),
            len @ 1.. => (at, at.checked_add(len).ok_or(Errno::EOVERFLOW)?),
            len => (at.checked_add(len).ok_or(Errno::EINVAL)?, at),
        };
        if start < 0 {
            return Err(Errno::EINVAL);
        }
        Ok((start as u64, if self.len == 0 { u64::MAX } else { end as u64 }))
    }
}

/// `fcntl` with `F_GETLK`, `F_SETLK`, `F_SETLKW` and their `F_OFD_*` kin.
pub fn fcntl(file: &Arc<File>, command: u32, argument: u64, layout: FlockLayout) -> Result<usize> {
    let mut request = Flock::read(layout, argument)?;
    let of_file = matches!(command, abi::F_OFD_GETLK | abi::F_OFD_SETLK | abi::F_OFD_SETLKW);
    if of_file && request.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = request.range(file)?;
    let owner = match of_file {
        true => Owner::OpenFile(Arc::as_ptr(file) as usize),
        false => Owner::Process(Arc::as_ptr(&current().files) as usize),
    };
    let lock = Lock {
        inode: file.inode_key(),
        owner,
        whole_file: false,
        exclusive: request.kind as u32 == abi::F_WRLCK,
        start,
        end,
        pid: if of_file { -1 } else { current().process.pid },
    };
    match (command, request.kind as u32) {
        (abi::F_GETLK | abi::F_OFD_GETLK, abi::F_RDLCK | abi::F_WRLCK) => {
            let found = conflicting(&lock);
            match found {
                None => request.kind = abi::F_UNLCK as i16,
                Some(other) => {
                    request.kind = if other.exclusive { abi::F_WRLCK } else { abi::F_RDLCK } as i16;
                    request.whence = abi::SEEK_SET as i16;
                    request.start = other.start as i64;
                    request.len = if other.end == u64::MAX { 0 } else { (other.end - other.start) as i64 };
                    // A lock of an open file has no owner to name.
                    request.pid = if other.pid < 0 { other.pid } else { seen(other.pid) };
                }
            }
            request.write(layout, argument)?;
        }
        (_, abi::F_UNLCK) => unlock(&lock),
        (_, abi::F_RDLCK) if !file.is_readable() => return Err(Errno::EBADF),
        (_, abi::F_WRLCK) if !file.is_writable() => return Err(Errno::EBADF),
        (_, abi::F_RDLCK | abi::F_WRLCK) if frames::require_spare().is_err() => return Err(Errno::ENOLCK),
        (abi::F_SETLK | abi::F_OFD_SETLK, abi::F_RDLCK | abi::F_WRLCK) => {
            try_lock(&lock).ok_or(Errno::EAGAIN)?;
        }
        (abi::F_SETLKW | abi::F_OFD_SETLKW, abi::F_RDLCK | abi::F_WRLCK) => {
            RELEASED.wait_until(|| try_lock(&lock))?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
