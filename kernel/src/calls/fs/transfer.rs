//! Moving bytes: `read`, `write` and their kin.

use linux_raw_sys::general as abi;

use crate::calls::fs::lookup::{AT_FDCWD, find};
use crate::errno::{Errno, Result};
use crate::fs::ramfs::RamInode;
use crate::memory::{Width, c_long};
use crate::task::current;
use crate::vfs::buffer::{Destination, MAX_TRANSFER, Source};
use crate::vfs::deny_write::while_writing;
use crate::vfs::file::File;

/// `read`.
pub fn sys_read(fd: u64, address: u64, len: u64) -> Result<usize> {
    current().files.get(fd)?.read(&mut Destination::user(address, len))
}

/// `write`.
pub fn sys_write(fd: u64, address: u64, len: u64) -> Result<usize> {
    current().files.get(fd)?.write(&mut Source::user(address, len))
}

/// `readv`.
pub fn sys_readv(fd: u64, vector: u64, count: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    file.read(&mut Destination::user_vector(vector, count)?)
}

/// `writev`.
pub fn sys_writev(fd: u64, vector: u64, count: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    file.write(&mut Source::user_vector(vector, count)?)
}

/// `pread64`.
pub fn sys_pread64(fd: u64, address: u64, len: u64, position: u64) -> Result<usize> {
    current().files.get(fd)?.read_at(&mut Destination::user(address, len), position)
}

/// `pwrite64`.
pub fn sys_pwrite64(fd: u64, address: u64, len: u64, position: u64) -> Result<usize> {
    current().files.get(fd)?.write_at(&mut Source::user(address, len), position)
}

/// `preadv`.
pub fn sys_preadv(fd: u64, vector: u64, count: u64, position: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    file.read_at(&mut Destination::user_vector(vector, count)?, position)
}

/// `pwritev`.
pub fn sys_pwritev(fd: u64, vector: u64, count: u64, position: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    file.write_at(&mut Source::user_vector(vector, count)?, position)
}

/// Position argument of `preadv2` and `pwritev2` that stands for the file's own.
const OWN_POSITION: u64 = u64::MAX;

/// `preadv2`, without flags.
pub fn sys_preadv2(fd: u64, vector: u64, count: u64, position: u64, _high: u64, flags: u64) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::ENOTSUP);
    }
    if position == OWN_POSITION { sys_readv(fd, vector, count) } else { sys_preadv(fd, vector, count, position) }
}

/// `pwritev2`, without flags.
pub fn sys_pwritev2(fd: u64, vector: u64, count: u64, position: u64, _high: u64, flags: u64) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::ENOTSUP);
    }
    if position == OWN_POSITION { sys_writev(fd, vector, count) } else { sys_pwritev(fd, vector, count, position) }
}

/// `lseek`.
pub fn sys_lseek(fd: u64, offset: u64, whence: u64) -> Result<usize> {
    Ok(current().files.get(fd)?.seek(offset as i64, whence as u32)? as usize)
}

/// Bytes moved at a time between two files.
const CHUNK: usize = 4096;

/// Where one side of a copy reads or writes: its own position, or one in user memory.
struct Side {
    address: u64,
    width: Width,
    position: u64,
}

impl Side {
    fn new(address: u64) -> Result<Self> {
        Side::of(Width::Bits64, address)
    }

    /// With a position that is this wide in user memory.
    fn of(width: Width, address: u64) -> Result<Self> {
        let position = if address == 0 {
            0
        } else {
            let [position] = c_long::read_of(width, address)?;
            position as u64
        };
        Ok(Side { address, width, position })
    }

    fn is_own(&self) -> bool {
        self.address == 0
    }

    fn finish(&self) -> Result<()> {
        if self.is_own() { Ok(()) } else { c_long::write_of(self.width, self.address, [self.position as i64]) }
    }
}

/// Copies `len` bytes from one file to another.
fn copy(input: &File, from: &mut Side, output: &File, to: &mut Side, len: u64) -> Result<usize> {
    let len = len.min(MAX_TRANSFER as u64) as usize;
    let mut chunk = alloc::vec![0u8; CHUNK.min(len)];
    let mut done = 0;
    while done < len {
        let wanted = CHUNK.min(len - done);
        let destination = &mut Destination::kernel(&mut chunk[..wanted]);
        let got = match from.is_own() {
            true => input.read(destination),
            false => input.read_at(destination, from.position),
        };
        let got = match got {
            Ok(0) => break,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
            Ok(got) => got,
        };
        let source = &mut Source::kernel(&chunk[..got]);
        let put = match to.is_own() {
            true => output.write(source),
            false => output.write_at(source, to.position),
        };
        let written = *put.as_ref().unwrap_or(&0);
        if written < got && from.is_own() && input.ops().seekable() {
            // What the other side did not take has not been read.
            input.seek(written as i64 - got as i64, abi::SEEK_CUR)?;
        }
        from.position += written as u64;
        to.position += written as u64;
        done += written;
        match put {
            Err(error) if done == 0 => return Err(error),
            Ok(written) if written == got => (),
            _ => break,
        }
    }
    from.finish()?;
    to.finish()?;
    Ok(done)
}

/// `sendfile`.
pub fn sys_sendfile(out_fd: u64, in_fd: u64, offset: u64, len: u64) -> Result<usize> {
    sendfile(Width::Bits64, out_fd, in_fd, offset, len)
}

/// `sendfile` with an offset of this width.
pub fn sendfile(width: Width, out_fd: u64, in_fd: u64, offset: u64, len: u64) -> Result<usize> {
    let files = &current().files;
    let (input, output) = (files.get(in_fd)?, files.get(out_fd)?);
    if !input.is_readable() || !output.is_writable() {
        return Err(Errno::EBADF);
    }
    // What cannot be read again cannot be sent: half of it might be lost.
    if !input.ops().seekable() || output.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    copy(&input, &mut Side::of(width, offset)?, &output, &mut Side::new(0)?, len)
}

/// `copy_file_range`.
pub fn sys_copy_file_range(
    in_fd: u64,
    in_offset: u64,
    out_fd: u64,
    out_offset: u64,
    len: u64,
    flags: u64,
) -> Result<usize> {
    let files = &current().files;
    let (input, output) = (files.get(in_fd)?, files.get(out_fd)?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    for file in [&input, &output] {
        match file.inode().file_type() {
            abi::S_IFREG => (),
            abi::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !input.is_readable() || !output.is_writable() || output.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    if input.inode().metadata().device != output.inode().metadata().device {
        return Err(Errno::EXDEV);
    }
    copy(&input, &mut Side::new(in_offset)?, &output, &mut Side::new(out_offset)?, len)
}

/// `ftruncate`.
pub fn sys_ftruncate(fd: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    if (len as i64) < 0 || !file.is_writable() || file.inode().file_type() != abi::S_IFREG {
        return Err(Errno::EINVAL);
    }
    file.inode().truncate(len)?;
    Ok(0)
}

/// `truncate`.
pub fn sys_truncate(path: u64, len: u64) -> Result<usize> {
    if (len as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let inode = find(AT_FDCWD, path, true)?;
    if inode.file_type() == abi::S_IFREG {
        inode.check_writable()?;
    }
    while_writing(&inode, || inode.truncate(len))?;
    Ok(0)
}

/// `fallocate`.
pub fn sys_fallocate(fd: u64, mode: u64, offset: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let mode = mode as u32;
    if (offset as i64) < 0 || len as i64 <= 0 {
        return Err(Errno::EINVAL);
    }
    let known = abi::FALLOC_FL_KEEP_SIZE | abi::FALLOC_FL_PUNCH_HOLE | abi::FALLOC_FL_ZERO_RANGE;
    let punch = abi::FALLOC_FL_PUNCH_HOLE;
    if mode & !known != 0 || mode & punch != 0 && mode != punch | abi::FALLOC_FL_KEEP_SIZE {
        return Err(Errno::ENOTSUP);
    }
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    match file.inode().file_type() {
        abi::S_IFIFO => return Err(Errno::ESPIPE),
        abi::S_IFREG => (),
        _ => return Err(Errno::ENODEV),
    }
    let data = file.inode().downcast::<RamInode>().and_then(RamInode::data).ok_or(Errno::ENOTSUP)?;
    data.allocate(&**file.inode(), mode, offset, len)?;
    Ok(0)
}

/// `fadvise64` and `readahead`: everything is in memory already.
pub fn sys_fadvise64(fd: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    if file.inode().file_type() == abi::S_IFIFO { Err(Errno::ESPIPE) } else { Ok(0) }
}

/// `fsync`, `fdatasync`, `syncfs`: there is nothing that memory could be synchronised with.
pub fn sys_fsync(fd: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    match file.inode().file_type() {
        abi::S_IFREG | abi::S_IFDIR | abi::S_IFBLK => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `sync`.
pub fn sys_sync() -> Result<usize> {
    Ok(0)
}
