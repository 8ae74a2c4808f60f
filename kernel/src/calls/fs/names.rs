//! Calls that change directories: making, linking, renaming, removing.

use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::calls::fs::lookup::{AT_FDCWD, check_flags, find_place, find_with_flags, read_path, walk_from};
use crate::errno::{Errno, Result};
use crate::fs::path::{Last, Walked};
use crate::memory::user;
use crate::task::current;
use crate::vfs::mount::MountFlags;

/// The place for something new, which must not exist.
fn new_place(dirfd: u64, path: u64, is_directory: bool) -> Result<Walked> {
    let place = find_place(dirfd, path)?;
    let name = place.name(Errno::EEXIST)?;
    if place.trailing_slash && !is_directory {
        // "x/" names a directory, which is not made this way.
        return Err(if place.directory.lookup(name).is_ok() { Errno::EEXIST } else { Errno::ENOENT });
    }
    if place.directory.lookup(name).is_ok() {
        return Err(Errno::EEXIST);
    }
    place.directory.check_writable()?;
    Ok(place)
}

/// EBUSY if something is mounted over the name. EROFS if names there cannot change.
fn check_free(place: &Walked, name: &[u8]) -> Result<()> {
    place.directory.check_writable()?;
    let is_covered = |inode| place.directory.with(inode).is_covered();
    if place.directory.lookup(name).is_ok_and(is_covered) { Err(Errno::EBUSY) } else { Ok(()) }
}

/// `mkdirat`.
pub fn sys_mkdirat(dirfd: u64, path: u64, mode: u64) -> Result<usize> {
    let place = new_place(dirfd, path, true)?;
    let mode = mode as u32 & 0o1777 & !current().fs.umask();
    place.directory.create(place.name(Errno::EEXIST)?, abi::S_IFDIR | mode, 0)?;
    Ok(0)
}

/// `mkdir`.
pub fn sys_mkdir(path: u64, mode: u64) -> Result<usize> {
    sys_mkdirat(AT_FDCWD, path, mode)
}

/// `mknodat`.
pub fn sys_mknodat(dirfd: u64, path: u64, mode: u64, device: u64) -> Result<usize> {
    let kind = match mode as u32 & abi::S_IFMT {
        0 => abi::S_IFREG,
        abi::S_IFDIR => return Err(Errno::EPERM),
        kind @ (abi::S_IFREG | abi::S_IFCHR | abi::S_IFBLK | abi::S_IFIFO | abi::S_IFSOCK) => kind,
        _ => return Err(Errno::EINVAL),
    };
    let place = new_place(dirfd, path, false)?;
    let mode = kind | mode as u32 & 0o7777 & !current().fs.umask();
    let has_number = matches!(kind, abi::S_IFCHR | abi::S_IFBLK);
    let device = if has_number { device as u32 as u64 } else { 0 };
    place.directory.create(place.name(Errno::EEXIST)?, mode, device)?;
    Ok(0)
}

/// `mknod`.
pub fn sys_mknod(path: u64, mode: u64, device: u64) -> Result<usize> {
    sys_mknodat(AT_FDCWD, path, mode, device)
}

/// `symlinkat`.
pub fn sys_symlinkat(target: u64, dirfd: u64, path: u64) -> Result<usize> {
    let target = read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let place = new_place(dirfd, path, false)?;
    place.directory.symlink(place.name(Errno::EEXIST)?, &target)?;
    Ok(0)
}

/// `symlink`.
pub fn sys_symlink(target: u64, path: u64) -> Result<usize> {
    sys_symlinkat(target, AT_FDCWD, path)
}

/// `linkat`.
pub fn sys_linkat(old_dirfd: u64, old: u64, new_dirfd: u64, new: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    check_flags(flags, abi::AT_SYMLINK_FOLLOW | abi::AT_EMPTY_PATH)?;
    let follow = if flags & abi::AT_SYMLINK_FOLLOW == 0 { abi::AT_SYMLINK_NOFOLLOW } else { 0 };
    let inode = find_with_flags(old_dirfd, old, flags & abi::AT_EMPTY_PATH | follow)?;
    let place = new_place(new_dirfd, new, false)?;
    if inode.mount.is_some() && !place.directory.is_by_mount_of(&inode) {
        return Err(Errno::EXDEV);
    }
    place.directory.link(place.name(Errno::EEXIST)?, &inode)?;
    Ok(0)
}

/// `link`.
pub fn sys_link(old: u64, new: u64) -> Result<usize> {
    sys_linkat(AT_FDCWD, old, AT_FDCWD, new, 0)
}

/// `unlinkat`.
pub fn sys_unlinkat(dirfd: u64, path: u64, flags: u64) -> Result<usize> {
    check_flags(flags as u32, abi::AT_REMOVEDIR)?;
    let place = find_place(dirfd, path)?;
    if flags as u32 & abi::AT_REMOVEDIR != 0 {
        let name = match &place.last {
            Last::Name(name) => name,
            Last::Root => return Err(Errno::EBUSY),
            Last::Here => return Err(Errno::EINVAL),
            Last::Up => return Err(Errno::ENOTEMPTY),
        };
        check_free(&place, name)?;
        place.directory.rmdir(name)?;
        return Ok(0);
    }
    let name = place.name(Errno::EISDIR)?;
    if place.trailing_slash {
        let is_directory = place.directory.lookup(name)?.is_directory();
        return Err(if is_directory { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    check_free(&place, name)?;
    place.directory.unlink(name)?;
    Ok(0)
}

/// `unlink`.
pub fn sys_unlink(path: u64) -> Result<usize> {
    sys_unlinkat(AT_FDCWD, path, 0)
}

/// `rmdir`.
pub fn sys_rmdir(path: u64) -> Result<usize> {
    sys_unlinkat(AT_FDCWD, path, abi::AT_REMOVEDIR.into())
}

/// `renameat2`.
pub fn sys_renameat2(old_dirfd: u64, old: u64, new_dirfd: u64, new: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    check_flags(flags, abi::RENAME_NOREPLACE | abi::RENAME_EXCHANGE)?;
    if flags == abi::RENAME_NOREPLACE | abi::RENAME_EXCHANGE {
        return Err(Errno::EINVAL);
    }
    let from = find_place(old_dirfd, old)?;
    let to = find_place(new_dirfd, new)?;
    if !from.directory.is_by_mount_of(&to.directory) {
        return Err(Errno::EXDEV);
    }
    let (name, new_name) = (from.name(Errno::EBUSY)?, to.name(Errno::EBUSY)?);
    if from.trailing_slash || to.trailing_slash {
        // A trailing slash says that it is a directory.
        if !from.directory.lookup(name)?.is_directory() {
            return Err(Errno::ENOTDIR);
        }
    }
    check_free(&from, name)?;
    check_free(&to, new_name)?;
    from.directory.rename(name, &to.directory, new_name, flags)?;
    Ok(0)
}

/// `renameat`.
pub fn sys_renameat(old_dirfd: u64, old: u64, new_dirfd: u64, new: u64) -> Result<usize> {
    sys_renameat2(old_dirfd, old, new_dirfd, new, 0)
}

/// `rename`.
pub fn sys_rename(old: u64, new: u64) -> Result<usize> {
    sys_renameat2(AT_FDCWD, old, AT_FDCWD, new, 0)
}

/// `readlinkat`.
pub fn sys_readlinkat(dirfd: u64, path: u64, address: u64, len: u64) -> Result<usize> {
    if len as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    let inode = if path.is_empty() {
        // A descriptor of the link itself.
        let inode = crate::fs::path::start_directory(dirfd)?;
        if !inode.is_symlink() {
            return Err(Errno::ENOENT);
        }
        inode
    } else {
        walk_from(dirfd, &path)?.object(&path, false)?
    };
    let target: Vec<u8> = inode.readlink()?;
    let len = target.len().min(len as u32 as usize);
    user::write(address, &target[..len])?;
    Ok(len)
}

/// `readlink`.
pub fn sys_readlink(path: u64, address: u64, len: u64) -> Result<usize> {
    sys_readlinkat(AT_FDCWD, path, address, len)
}

/// `faccessat2`: everybody is root, who may do all but execute what nobody may execute.
pub fn sys_faccessat2(dirfd: u64, path: u64, mode: u64, flags: u64) -> Result<usize> {
    let (mode, flags) = (mode as u32, flags as u32);
    check_flags(mode, 7)?;
    check_flags(flags, abi::AT_EACCESS | abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    let object = find_with_flags(dirfd, path, flags)?;
    let metadata = object.metadata();
    let kind = metadata.mode & abi::S_IFMT;
    let is_directory = kind == abi::S_IFDIR;
    if mode & abi::X_OK != 0 && kind == abi::S_IFREG && object.has(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    if mode & abi::W_OK != 0 && matches!(kind, abi::S_IFREG | abi::S_IFDIR | abi::S_IFLNK) {
        object.check_writable()?;
    }
    if mode & abi::X_OK != 0 && !is_directory && metadata.mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    Ok(0)
}

/// `faccessat`.
pub fn sys_faccessat(dirfd: u64, path: u64, mode: u64) -> Result<usize> {
    sys_faccessat2(dirfd, path, mode, 0)
}

/// `access`.
pub fn sys_access(path: u64, mode: u64) -> Result<usize> {
    sys_faccessat2(AT_FDCWD, path, mode, 0)
}
