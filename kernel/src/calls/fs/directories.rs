//! Directories: reading them, and where a task is.

use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::calls::fs::lookup::{AT_FDCWD, find};
use crate::errno::{Errno, Result};
use crate::memory::{Width, user};
use crate::task::current;
use crate::vfs::inode::{DirectoryEntry, path_in_file_system};

/// The most bytes of entries made at a time.
const MAX_ENTRIES: u64 = 32 * 1024;

/// Reads entries in the layout that `encode` makes; it returns an entry's bytes.
fn getdents(fd: u64, address: u64, len: u64, encode: impl Fn(&DirectoryEntry) -> Vec<u8>) -> Result<usize> {
    let file = current().files.get(fd)?;
    let len = (len as u32 as u64).min(MAX_ENTRIES) as usize;
    let start = file.seek(0, abi::SEEK_CUR).unwrap_or(0);
    let mut bytes = Vec::new();
    let mut too_small = false;
    file.readdir(&mut |entry| {
        let encoded = encode(&entry);
        if bytes.len() + encoded.len() > len {
            too_small = bytes.is_empty();
            return false;
        }
        bytes.extend_from_slice(&encoded);
        true
    })?;
    if too_small {
        return Err(Errno::EINVAL);
    }
    if let Err(error) = user::write(address, &bytes[..]) {
        // The entries were not delivered: the next call gets them.
        file.seek(start as i64, abi::SEEK_SET)?;
        return Err(error);
    }
    Ok(bytes.len())
}

/// `d_type` of a file type.
fn directory_type(file_type: u32) -> u8 {
    (file_type >> 12) as u8
}

/// `getdents64`.
pub fn sys_getdents64(fd: u64, address: u64, len: u64) -> Result<usize> {
    getdents(fd, address, len, |entry| {
        // d_ino, d_off, d_reclen, d_type, d_name
        const NAME: usize = 19;
        let size = (NAME + entry.name.len() + 1).next_multiple_of(8);
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&entry.ino.to_ne_bytes());
        bytes.extend_from_slice(&entry.next.to_ne_bytes());
        bytes.extend_from_slice(&(size as u16).to_ne_bytes());
        bytes.push(directory_type(entry.file_type));
        bytes.extend_from_slice(entry.name);
        bytes.resize(size, 0);
        bytes
    })
}

/// `getdents`: the type is the last byte.
pub fn sys_getdents(fd: u64, address: u64, len: u64) -> Result<usize> {
    let word = Width::of_call().word();
    getdents(fd, address, len, |entry| {
        // d_ino, d_off (longs), d_reclen, d_name, d_type
        let name_at = 2 * word + 2;
        let size = (name_at + entry.name.len() + 2).next_multiple_of(word);
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&entry.ino.to_le_bytes()[..word]);
        bytes.extend_from_slice(&entry.next.to_le_bytes()[..word]);
        bytes.extend_from_slice(&(size as u16).to_ne_bytes());
        bytes.extend_from_slice(entry.name);
        bytes.resize(size - 1, 0);
        bytes.push(directory_type(entry.file_type));
        bytes
    })
}

/// `getcwd`. Returns the length with the NUL.
pub fn sys_getcwd(address: u64, len: u64) -> Result<usize> {
    let context = &current().fs;
    let cwd = context.cwd();
    if cwd.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    let mut path = match cwd.path_from(&context.root()) {
        Some(path) => path,
        // Outside the task's root.
        None => [b"(unreachable)", &path_in_file_system(&*cwd.inode)[..]].concat(),
    };
    path.push(0);
    if path.len() as u64 > len {
        return Err(Errno::ERANGE);
    }
    user::write(address, &path[..])?;
    Ok(path.len())
}

/// `chdir`.
pub fn sys_chdir(path: u64) -> Result<usize> {
    current().fs.set_cwd(find(AT_FDCWD, path, true)?)?;
    Ok(0)
}

/// `fchdir`.
pub fn sys_fchdir(fd: u64) -> Result<usize> {
    let file = current().files.get_any(fd)?;
    current().fs.set_cwd(file.location())?;
    Ok(0)
}

/// `chroot`.
pub fn sys_chroot(path: u64) -> Result<usize> {
    current().fs.set_root(find(AT_FDCWD, path, true)?)?;
    Ok(0)
}

/// `umask`.
pub fn sys_umask(mask: u64) -> Result<usize> {
    Ok(current().fs.set_umask(mask as u32) as usize)
}
