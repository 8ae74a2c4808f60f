//! Extended attributes. No file has any: what asks for one, or sets one, gets EOPNOTSUPP, and a list is empty, as on a
//! file system of Linux's that has none. What is wrong with the arguments is said first.

use linux_raw_sys::general as abi;

use crate::calls::fs::lookup::{AT_FDCWD, find};
use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::current;
use crate::vfs::mount::Location;

/// The longest name, without its NUL (XATTR_NAME_MAX).
const MAX_NAME: usize = 255;
/// The largest value (XATTR_SIZE_MAX).
const MAX_VALUE: u64 = 65536;

/// What the call does with an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// The result for the attribute whose name is at `name`: always an error.
fn attribute(inode: &Location, name: u64, access: Access) -> Result<usize> {
    if matches!(access, Access::Write) {
        inode.check_writable()?;
    }
    let name = read_name(name)?;
    // A program's own attributes are for files and directories alone.
    let may_have = matches!(inode.file_type(), abi::S_IFREG | abi::S_IFDIR);
    Err(match access {
        _ if !name.starts_with(b"user.") || may_have => Errno::EOPNOTSUPP,
        Access::Read => Errno::ENODATA,
        Access::Write => Errno::EPERM,
    })
}

/// ERANGE for a name that is empty or too long.
fn read_name(address: u64) -> Result<alloc::vec::Vec<u8>> {
    match user::read_cstr(address, MAX_NAME + 1) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        other => other,
    }
}

/// What an open descriptor is about; one that only names a file (`O_PATH`) does not do.
fn of_descriptor(fd: u64) -> Result<Location> {
    Ok(current().files.get(fd)?.location())
}

fn set(inode: &Location, name: u64, value: u64, size: u64, flags: u64) -> Result<usize> {
    if flags as u32 & !(abi::XATTR_CREATE | abi::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    read_name(name)?;
    if size > MAX_VALUE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = alloc::vec![0u8; size as usize];
    // SAFETY: the vector has that many bytes.
    unsafe { user::copy_from_user(bytes.as_mut_ptr(), value, bytes.len()) }?;
    attribute(inode, name, Access::Write)
}

/// `setxattr`.
pub fn sys_setxattr(path: u64, name: u64, value: u64, size: u64, flags: u64) -> Result<usize> {
    set(&find(AT_FDCWD, path, true)?, name, value, size, flags)
}

/// `lsetxattr`.
pub fn sys_lsetxattr(path: u64, name: u64, value: u64, size: u64, flags: u64) -> Result<usize> {
    set(&find(AT_FDCWD, path, false)?, name, value, size, flags)
}

/// `fsetxattr`.
pub fn sys_fsetxattr(fd: u64, name: u64, value: u64, size: u64, flags: u64) -> Result<usize> {
    set(&of_descriptor(fd)?, name, value, size, flags)
}

/// `getxattr`.
pub fn sys_getxattr(path: u64, name: u64) -> Result<usize> {
    attribute(&find(AT_FDCWD, path, true)?, name, Access::Read)
}

/// `lgetxattr`.
pub fn sys_lgetxattr(path: u64, name: u64) -> Result<usize> {
    attribute(&find(AT_FDCWD, path, false)?, name, Access::Read)
}

/// `fgetxattr`.
pub fn sys_fgetxattr(fd: u64, name: u64) -> Result<usize> {
    attribute(&of_descriptor(fd)?, name, Access::Read)
}

/// `listxattr`: nothing is written.
pub fn sys_listxattr(path: u64) -> Result<usize> {
    find(AT_FDCWD, path, true).map(|_| 0)
}

/// `llistxattr`.
pub fn sys_llistxattr(path: u64) -> Result<usize> {
    find(AT_FDCWD, path, false).map(|_| 0)
}

/// `flistxattr`.
pub fn sys_flistxattr(fd: u64) -> Result<usize> {
    of_descriptor(fd).map(|_| 0)
}

/// `removexattr`.
pub fn sys_removexattr(path: u64, name: u64) -> Result<usize> {
    attribute(&find(AT_FDCWD, path, true)?, name, Access::Write)
}

/// `lremovexattr`.
pub fn sys_lremovexattr(path: u64, name: u64) -> Result<usize> {
    attribute(&find(AT_FDCWD, path, false)?, name, Access::Write)
}

/// `fremovexattr`.
pub fn sys_fremovexattr(fd: u64, name: u64) -> Result<usize> {
    attribute(&of_descriptor(fd)?, name, Access::Write)
}
