//! Descriptors themselves: `dup`, `fcntl`, `close`, `pipe`, `ioctl`.

use linux_raw_sys::{general as abi, ioctl};

use crate::calls::fs::locks;
use crate::calls::fs::locks::FlockLayout;
use crate::calls::fs::lookup::check_flags;
use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::fs::install_pair;
use crate::fs::pipe::{CAPACITY, PipeEnd, new_pipe};
use crate::fs::ramfs::RamInode;
use crate::fs::ramfs_file::Data;
use crate::memory::user;
use crate::task::current;
use crate::vfs::fd::descriptor_limit;

/// `close`.
pub fn sys_close(fd: u64) -> Result<usize> {
    current().files.close(fd)?;
    Ok(0)
}

/// Of `close_range`: act on a copy of the table that is only this task's.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
/// Of `close_range`: mark instead of closing.
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

/// `close_range`.
pub fn sys_close_range(first: u64, last: u64, flags: u64) -> Result<usize> {
    let (first, last) = (first as u32, last as u32);
    check_flags(flags as u32, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)?;
    if first > last {
        return Err(Errno::EINVAL);
    }
    let task = current();
    if flags as u32 & CLOSE_RANGE_UNSHARE != 0 {
        let copy = alloc::sync::Arc::new(task.files.duplicate()?);
        drop(task.files.replace(Some(copy)));
    }
    if flags as u32 & CLOSE_RANGE_CLOEXEC != 0 {
        task.files.close_range_on_exec(first.into(), last.into());
    } else {
        task.files.close_range(first.into(), last.into());
    }
    Ok(0)
}

/// `dup`.
pub fn sys_dup(fd: u64) -> Result<usize> {
    let files = &current().files;
    Ok(files.install(files.get_any(fd)?, false)? as usize)
}

/// `dup2`.
pub fn sys_dup2(old: u64, new: u64) -> Result<usize> {
    if old as u32 == new as u32 {
        current().files.get_any(old)?;
        return Ok(new as u32 as usize);
    }
    sys_dup3(old, new, 0)
}

/// `dup3`.
pub fn sys_dup3(old: u64, new: u64, flags: u64) -> Result<usize> {
    let (old, new) = (old as u32, new as u32);
    check_flags(flags as u32, abi::O_CLOEXEC)?;
    if old == new {
        return Err(Errno::EINVAL);
    }
    let files = &current().files;
    let file = files.get_any(old.into())?;
    files.assign(new.into(), file, flags as u32 & abi::O_CLOEXEC != 0)?;
    Ok(new as usize)
}

/// `pipe2`.
pub fn sys_pipe2(address: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    check_flags(flags, abi::O_CLOEXEC | abi::O_NONBLOCK | abi::O_DIRECT)?;
    if flags & abi::O_DIRECT != 0 {
        return Err(Errno::EINVAL);
    }
    let (reader, writer) = new_pipe(flags & abi::O_NONBLOCK);
    install_pair(reader, writer, flags & abi::O_CLOEXEC != 0, address)
}

/// `pipe`.
pub fn sys_pipe(address: u64) -> Result<usize> {
    sys_pipe2(address, 0)
}

/// `fcntl`.
pub fn sys_fcntl(fd: u64, command: u64, argument: u64) -> Result<usize> {
    fcntl(fd, command, argument, FlockLayout::Native)
}

/// `fcntl`, where locks lie in user memory as `layout` says.
pub fn fcntl(fd: u64, command: u64, argument: u64, layout: FlockLayout) -> Result<usize> {
    let files = &current().files;
    let file = files.get_any(fd)?;
    let command = command as u32;
    let allowed_for_path =
        matches!(command, abi::F_DUPFD | abi::F_DUPFD_CLOEXEC | abi::F_GETFD | abi::F_SETFD | abi::F_GETFL);
    if file.is_path() && !allowed_for_path {
        return Err(Errno::EBADF);
    }
    match command {
        abi::F_DUPFD | abi::F_DUPFD_CLOEXEC => {
            let limit = descriptor_limit();
            if argument >= limit {
                return Err(Errno::EINVAL);
            }
            let close_on_exec = command == abi::F_DUPFD_CLOEXEC;
            Ok(files.install_from(file, close_on_exec, argument, limit)? as usize)
        }
        abi::F_GETFD => Ok(if files.close_on_exec(fd)? { abi::FD_CLOEXEC as usize } else { 0 }),
        abi::F_SETFD => {
            files.set_close_on_exec(fd, argument as u32 & abi::FD_CLOEXEC != 0)?;
            Ok(0)
        }
        abi::F_GETFL => Ok(file.flags() as usize),
        abi::F_SETFL => {
            file.set_flags(argument as u32);
            Ok(0)
        }
        abi::F_GETLK | abi::F_SETLK | abi::F_SETLKW | abi::F_OFD_GETLK | abi::F_OFD_SETLK | abi::F_OFD_SETLKW => {
            locks::fcntl(&file, command, argument, layout)
        }
        abi::F_GETOWN => Ok(file.owner() as usize),
        abi::F_SETOWN if argument as i32 == i32::MIN => Err(Errno::EINVAL),
        abi::F_SETOWN => {
            file.set_owner(argument as i32);
            Ok(0)
        }
        abi::F_GETOWN_EX => {
            let owner = file.owner();
            let kind = if owner < 0 { abi::F_OWNER_PGRP } else { abi::F_OWNER_PID };
            user::write(argument, &[kind, owner.unsigned_abs()])?;
            Ok(0)
        }
        abi::F_SETOWN_EX => {
            let [kind, owner]: [i32; 2] = user::read(argument)?;
            match kind as u32 {
                abi::F_OWNER_TID | abi::F_OWNER_PID => file.set_owner(owner),
                abi::F_OWNER_PGRP => file.set_owner(owner.checked_neg().ok_or(Errno::ESRCH)?),
                _ => return Err(Errno::EINVAL),
            }
            Ok(0)
        }
        abi::F_GETSIG => Ok(file.signal() as usize),
        abi::F_SETSIG if argument <= 64 => {
            file.set_signal(argument as u32);
            Ok(0)
        }
        abi::F_GETPIPE_SZ | abi::F_SETPIPE_SZ => {
            if !file.ops().as_any().is_some_and(|ops| ops.is::<PipeEnd>()) {
                return Err(Errno::EBADF);
            }
            // All pipes have one size. A call may make it larger than it asks for, but not smaller.
            match command {
                abi::F_SETPIPE_SZ if argument as u32 as usize > CAPACITY => Err(Errno::EPERM),
                _ => Ok(CAPACITY),
            }
        }
        abi::F_GET_SEALS => Ok(memory_file(&file)?.seals() as usize),
        abi::F_ADD_SEALS => {
            if !file.is_writable() {
                return Err(Errno::EPERM);
            }
            memory_file(&file)?.add_seals(&**file.inode(), argument as u32)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn memory_file(file: &File) -> Result<&Data> {
    file.inode().downcast::<RamInode>().and_then(RamInode::data).ok_or(Errno::EINVAL)
}

/// `ioctl`.
pub fn sys_ioctl(fd: u64, request: u64, argument: u64) -> Result<usize> {
    let files = &current().files;
    let file = files.get(fd)?;
    match request as u32 {
        ioctl::FIOCLEX => files.set_close_on_exec(fd, true)?,
        ioctl::FIONCLEX => files.set_close_on_exec(fd, false)?,
        ioctl::FIONBIO => {
            let on: i32 = user::read(argument)?;
            let flags = file.flags() & !abi::O_NONBLOCK;
            file.set_flags(if on != 0 { flags | abi::O_NONBLOCK } else { flags });
        }
        ioctl::FIONREAD if file.inode().file_type() == abi::S_IFREG => {
            let left = file.inode().metadata().size as i64 - file.seek(0, abi::SEEK_CUR)? as i64;
            user::write(argument, &(left as i32))?;
        }
        request => return file.ops().ioctl(&file, request, argument),
    }
    Ok(0)
}
