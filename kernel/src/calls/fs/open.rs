//! `open` and its kin.

use alloc::sync::Arc;

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::calls::fs::lookup::{AT_FDCWD, read_path, walk_from};
use crate::errno::{Errno, Result};
use crate::fs::path::{Rules, Walk, start_directory};
use crate::fs::ramfs::{self, RamInode};
use crate::fs::ramfs_file::Data;
use crate::memory::user;
use crate::task::current;
use crate::vfs::deny_write::while_writing;
use crate::vfs::file::{File, PathOps};
use crate::vfs::inode::Inode;
use crate::vfs::mount::{Location, MountFlags};

/// Flags that mean something; `open` ignores others.
const KNOWN: u32 = abi::O_ACCMODE
    | abi::O_CREAT
    | abi::O_EXCL
    | abi::O_NOCTTY
    | abi::O_TRUNC
    | abi::O_APPEND
    | abi::O_NONBLOCK
    | abi::O_SYNC
    | abi::FASYNC
    | abi::O_DIRECT
    | abi::O_LARGEFILE
    | abi::O_DIRECTORY
    | abi::O_NOFOLLOW
    | abi::O_NOATIME
    | abi::O_CLOEXEC
    | abi::O_PATH
    | abi::O_TMPFILE;

/// The bit of `O_TMPFILE` beside `O_DIRECTORY`.
const TMPFILE: u32 = abi::O_TMPFILE & !abi::O_DIRECTORY;

/// What says something beside `O_PATH`: open(2) ignores the rest, openat2(2) refuses it.
const WITH_PATH: u32 = abi::O_PATH | abi::O_DIRECTORY | abi::O_NOFOLLOW | abi::O_CLOEXEC;

/// Opens what `path` names, or creates it.
fn open(walk: &mut Walk, path: &[u8], flags: u32, mode: u32) -> Result<Arc<File>> {
    let mut flags = flags & KNOWN;
    if flags & abi::O_PATH != 0 {
        flags &= WITH_PATH;
    }
    if flags & TMPFILE != 0 {
        return open_unnamed(walk, path, flags, mode);
    }
    let follow = flags & abi::O_NOFOLLOW == 0;
    if flags & abi::O_CREAT == 0 {
        return open_object(walk.object(path, follow)?, flags, false);
    }
    // With O_EXCL, a symbolic link is something that exists.
    let exclusive = flags & abi::O_EXCL != 0;
    let walked = walk.object_or_place(path, follow && !exclusive)?;
    if walked.trailing_slash {
        return Err(Errno::EISDIR);
    }
    let name = walked.name(if exclusive { Errno::EEXIST } else { Errno::EISDIR })?;
    if let Some(object) = walked.inode {
        if exclusive {
            return Err(Errno::EEXIST);
        }
        return if object.is_directory() { Err(Errno::EISDIR) } else { open_object(object, flags, false) };
    }
    let directory = &walked.directory;
    directory.check_writable()?;
    let mode = mode & 0o7777 & !current().fs.umask();
    match directory.create(name, abi::S_IFREG | mode, 0) {
        Ok(inode) => open_object(directory.with(inode), flags, true),
        // Another was faster; then it is as if it had been there.
        Err(Errno::EEXIST) if !exclusive => open_object(directory.with(directory.lookup(name)?), flags, false),
        Err(error) => Err(error),
    }
}

fn open_object(object: Location, flags: u32, is_new: bool) -> Result<Arc<File>> {
    let inode = &object.inode;
    let access = flags & abi::O_ACCMODE;
    let is_directory = inode.is_directory();
    if flags & abi::O_DIRECTORY != 0 && !is_directory {
        return Err(Errno::ENOTDIR);
    }
    if flags & abi::O_PATH != 0 {
        let file = File::new(inode.clone(), Arc::new(PathOps), flags);
        file.opened_by(object.mount);
        return Ok(file);
    }
    if inode.is_symlink() {
        return Err(Errno::ELOOP);
    }
    if is_directory && (access != abi::O_RDONLY || flags & abi::O_TRUNC != 0) {
        return Err(Errno::EISDIR);
    }
    let (kind, truncates) = (inode.file_type(), flags & abi::O_TRUNC != 0);
    if kind == abi::S_IFREG && (access != abi::O_RDONLY || truncates) {
        object.check_writable()?;
    }
    if matches!(kind, abi::S_IFCHR | abi::S_IFBLK) && object.has(MountFlags::NO_DEVICES) {
        return Err(Errno::EACCES);
    }
    let file = inode.clone().open(flags | abi::O_LARGEFILE)?;
    if truncates && !is_new && kind == abi::S_IFREG {
        while_writing(inode, || inode.truncate(0))?;
    }
    file.opened_by(object.mount);
    Ok(file)
}

/// `O_TMPFILE`: a file without a name.
fn open_unnamed(walk: &mut Walk, path: &[u8], flags: u32, mode: u32) -> Result<Arc<File>> {
    let complete = flags & (abi::O_TMPFILE | abi::O_CREAT) == abi::O_TMPFILE;
    if flags & abi::O_ACCMODE == abi::O_RDONLY || !complete {
        return Err(Errno::EINVAL);
    }
    let directory = walk.object(path, true)?;
    if !directory.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if directory.downcast::<RamInode>().is_none() {
        return Err(Errno::ENOTSUP);
    }
    let mode = mode & 0o7777 & !current().fs.umask();
    directory.check_writable()?;
    let file =
        RamInode::new_anonymous(directory.metadata().device, mode, Data::new()).open(flags | abi::O_LARGEFILE)?;
    file.opened_by(directory.mount);
    Ok(file)
}

fn install(file: Arc<File>, flags: u32) -> Result<usize> {
    Ok(current().files.install(file, flags & abi::O_CLOEXEC != 0)? as usize)
}

/// `openat`.
pub fn sys_openat(dirfd: u64, path: u64, flags: u64, mode: u64) -> Result<usize> {
    let path = read_path(path)?;
    let file = open(&mut walk_from(dirfd, &path)?, &path, flags as u32, mode as u32)?;
    install(file, flags as u32)
}

/// `open`.
pub fn sys_open(path: u64, flags: u64, mode: u64) -> Result<usize> {
    sys_openat(AT_FDCWD, path, flags, mode)
}

/// `creat`.
pub fn sys_creat(path: u64, mode: u64) -> Result<usize> {
    sys_open(path, (abi::O_CREAT | abi::O_WRONLY | abi::O_TRUNC).into(), mode)
}

/// `struct open_how`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `openat2`.
pub fn sys_openat2(dirfd: u64, path: u64, how: u64, size: u64) -> Result<usize> {
    const HOW: u64 = size_of::<OpenHow>() as u64;
    if size < HOW {
        return Err(Errno::EINVAL);
    }
    // A larger structure is a later version's: fine as long as what is new is zero.
    for offset in HOW..size.min(4096) {
        if user::read::<u8>(how + offset)? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let OpenHow { flags, mode, resolve } = user::read(how)?;
    let known = abi::RESOLVE_NO_XDEV
        | abi::RESOLVE_NO_MAGICLINKS
        | abi::RESOLVE_NO_SYMLINKS
        | abi::RESOLVE_BENEATH
        | abi::RESOLVE_IN_ROOT
        | abi::RESOLVE_CACHED;
    let creates = flags as u32 & (abi::O_CREAT | TMPFILE) != 0;
    let allowed = if flags & u64::from(abi::O_PATH) != 0 { WITH_PATH } else { KNOWN };
    let valid = flags & !u64::from(allowed) == 0
        && resolve & !u64::from(known) == 0
        && (creates || mode == 0)
        && mode & !0o7777 == 0;
    let has = |flag: u32| resolve & u64::from(flag) != 0;
    if !valid || has(abi::RESOLVE_BENEATH) && has(abi::RESOLVE_IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    let rules = Rules {
        no_symlinks: has(abi::RESOLVE_NO_SYMLINKS),
        // Links that lead anywhere would lead out.
        no_magic_links: has(abi::RESOLVE_NO_MAGICLINKS) || has(abi::RESOLVE_BENEATH) || has(abi::RESOLVE_IN_ROOT),
        beneath: has(abi::RESOLVE_BENEATH),
        one_file_system: has(abi::RESOLVE_NO_XDEV),
    };
    let path = read_path(path)?;
    let mut walk = Walk::restricted(&current().fs, start_directory(dirfd)?, rules, has(abi::RESOLVE_IN_ROOT));
    let file = open(&mut walk, &path, flags as u32, mode as u32)?;
    install(file, flags as u32)
}

/// `memfd_create`.
pub fn sys_memfd_create(name: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    crate::calls::fs::lookup::check_flags(flags, abi::MFD_CLOEXEC | abi::MFD_ALLOW_SEALING)?;
    // The name and the "memfd:" that is put before it fit into 255 bytes.
    let name = user::read_cstr(name, 250).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let data = Data::new_memfd(&name, flags & abi::MFD_ALLOW_SEALING != 0);
    // As in Linux it does not count as open for writing: the file may be run.
    let inode = RamInode::new_anonymous(ramfs::DEVICE, 0o777, data);
    let file = File::new(inode.clone(), inode, abi::O_RDWR | abi::O_LARGEFILE);
    Ok(current().files.install(file, flags & abi::MFD_CLOEXEC != 0)? as usize)
}
