//! What files are: `stat` and its kin, permissions, owners, times.

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::calls::fs::lookup::{AT_FDCWD, check_flags, find, find_with_flags};
use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::{Width, c_long, frames, user};
use crate::task::clock::Timespec;
use crate::task::current;
use crate::vfs::inode::{AttributeChange, Metadata, Nanoseconds, major_minor};
use crate::vfs::mount::{Location, MountFlags};

const SECOND: u64 = 1_000_000_000;
/// The preferred size of a transfer.
pub const BLOCK_SIZE: u64 = 4096;

/// `struct stat`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    device: u64,
    ino: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    padding: u32,
    rdev: u64,
    size: u64,
    block_size: u64,
    blocks: u64,
    accessed: [u64; 2],
    modified: [u64; 2],
    changed: [u64; 2],
    unused: [u64; 3],
}

const _: () = {
    assert!(size_of::<Stat>() == size_of::<abi::stat>());
    assert!(core::mem::offset_of!(Stat, rdev) == core::mem::offset_of!(abi::stat, st_rdev));
    assert!(core::mem::offset_of!(Stat, accessed) == core::mem::offset_of!(abi::stat, st_atime));
};

/// Seconds and nanoseconds.
fn split(time: Nanoseconds) -> [u64; 2] {
    [time / SECOND, time % SECOND]
}

/// Writes a `struct stat` of some layout.
pub type WriteStat = fn(&Metadata, u64) -> Result<()>;

fn write_stat(metadata: &Metadata, address: u64) -> Result<()> {
    let stat = Stat {
        device: metadata.device,
        ino: metadata.ino,
        links: metadata.links.into(),
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        padding: 0,
        rdev: metadata.rdev,
        size: metadata.size,
        block_size: BLOCK_SIZE,
        blocks: metadata.blocks,
        accessed: split(metadata.accessed),
        modified: split(metadata.modified),
        changed: split(metadata.changed),
        unused: [0; 3],
    };
    user::write(address, &stat)
}

/// `stat`.
pub fn sys_stat(path: u64, address: u64) -> Result<usize> {
    stat(write_stat, path, true, address)
}

/// `lstat`.
pub fn sys_lstat(path: u64, address: u64) -> Result<usize> {
    stat(write_stat, path, false, address)
}

/// `fstat`.
pub fn sys_fstat(fd: u64, address: u64) -> Result<usize> {
    fstat(write_stat, fd, address)
}

/// `newfstatat`.
pub fn sys_newfstatat(dirfd: u64, path: u64, address: u64, flags: u64) -> Result<usize> {
    fstatat(write_stat, dirfd, path, address, flags)
}

/// `stat`, and `lstat` which does not `follow`, with whichever structure.
pub fn stat(write: WriteStat, path: u64, follow: bool, address: u64) -> Result<usize> {
    write(&find(AT_FDCWD, path, follow)?.metadata(), address)?;
    Ok(0)
}

/// `fstat` with whichever structure.
pub fn fstat(write: WriteStat, fd: u64, address: u64) -> Result<usize> {
    write(&current().files.get_any(fd)?.inode().metadata(), address)?;
    Ok(0)
}

/// `fstatat` with whichever structure.
pub fn fstatat(write: WriteStat, dirfd: u64, path: u64, address: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    check_flags(flags, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH | abi::AT_NO_AUTOMOUNT)?;
    write(&find_with_flags(dirfd, path, flags)?.metadata(), address)?;
    Ok(0)
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct StatxTime {
    seconds: i64,
    nanoseconds: u32,
    reserved: i32,
}

impl From<Nanoseconds> for StatxTime {
    fn from(time: Nanoseconds) -> Self {
        StatxTime { seconds: (time / SECOND) as i64, nanoseconds: (time % SECOND) as u32, reserved: 0 }
    }
}

/// `struct statx`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    created: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    rdev: [u32; 2],
    device: [u32; 2],
    mount: u64,
    rest: [u64; 13],
}

const _: () = {
    assert!(size_of::<Statx>() == size_of::<abi::statx>());
    assert!(core::mem::offset_of!(Statx, mount) == core::mem::offset_of!(abi::statx, stx_mnt_id));
};

/// `statx`. All that there is to know is always reported.
pub fn sys_statx(dirfd: u64, path: u64, flags: u64, mask: u64, address: u64) -> Result<usize> {
    let flags = flags as u32;
    let synchronise = abi::AT_STATX_SYNC_TYPE;
    check_flags(flags, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH | abi::AT_NO_AUTOMOUNT | synchronise)?;
    if flags & synchronise == synchronise || mask as u32 & abi::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let object = find_with_flags(dirfd, path, flags)?;
    let metadata = object.metadata();
    let pair = |device| <[u32; 2]>::from(major_minor(device));
    let statx = Statx {
        mask: abi::STATX_BASIC_STATS | abi::STATX_BTIME | abi::STATX_MNT_ID,
        block_size: BLOCK_SIZE as u32,
        attributes: if object.is_mount_root() { abi::STATX_ATTR_MOUNT_ROOT.into() } else { 0 },
        links: metadata.links,
        uid: metadata.uid,
        gid: metadata.gid,
        mode: metadata.mode as u16,
        spare: 0,
        ino: metadata.ino,
        size: metadata.size,
        blocks: metadata.blocks,
        attributes_mask: abi::STATX_ATTR_MOUNT_ROOT.into(),
        accessed: metadata.accessed.into(),
        created: metadata.created.into(),
        changed: metadata.changed.into(),
        modified: metadata.modified.into(),
        rdev: pair(metadata.rdev),
        device: pair(metadata.device),
        mount: object.mount.as_ref().map_or(0, |mount| mount.id),
        rest: [0; 13],
    };
    user::write(address, &statx)?;
    Ok(0)
}

/// `struct statfs`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Statfs {
    kind: u64,
    block_size: u64,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    free_files: u64,
    id: u64,
    name_length: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

const _: () = assert!(size_of::<Statfs>() == size_of::<abi::statfs>());

/// What there is to know of a file system.
pub struct FileSystem {
    /// Its magic number.
    pub kind: u32,
    /// Blocks of 4096 bytes: all, and those that are free.
    pub blocks: u64,
    /// See `blocks`.
    pub free: u64,
    /// Its number.
    pub id: u64,
    /// `ST_*`.
    pub flags: u32,
}

/// Writes a `struct statfs` of some layout.
pub type WriteStatfs = fn(&FileSystem, u64) -> Result<()>;
/// ST_VALID, in `f_flags`.
const ST_VALID: u32 = 0x20;
/// ST_RELATIME.
const ST_RELATIME: u32 = 0x1000;
/// The longest name.
pub const NAME_LENGTH: u32 = 255;

fn file_system(object: &Location) -> FileSystem {
    let kind = object.file_system();
    let (blocks, free) = match kind {
        abi::TMPFS_MAGIC => (frames::total_bytes() / BLOCK_SIZE, frames::free_bytes() / BLOCK_SIZE),
        _ => (0, 0),
    };
    // All are as the mount's, but for ST_RELATIME.
    let of_mount = object.mount.as_ref().map_or(MountFlags::empty(), |mount| mount.flags());
    let relative = if of_mount.contains(MountFlags::RELATIVE_ATIME) { ST_RELATIME } else { 0 };
    let flags = ST_VALID | (of_mount - MountFlags::RELATIVE_ATIME).bits() | relative;
    FileSystem { kind, blocks, free, id: object.metadata().device, flags }
}

fn write_statfs(of: &FileSystem, address: u64) -> Result<()> {
    let statfs = Statfs {
        kind: of.kind.into(),
        block_size: BLOCK_SIZE,
        blocks: of.blocks,
        free: of.free,
        available: of.free,
        files: 0,
        free_files: 0,
        id: of.id,
        name_length: NAME_LENGTH.into(),
        fragment_size: BLOCK_SIZE,
        flags: of.flags.into(),
        spare: [0; 4],
    };
    user::write(address, &statfs)
}

/// `statfs`.
pub fn sys_statfs(path: u64, address: u64) -> Result<usize> {
    statfs(write_statfs, path, address)
}

/// `fstatfs`.
pub fn sys_fstatfs(fd: u64, address: u64) -> Result<usize> {
    fstatfs(write_statfs, fd, address)
}

/// `statfs` with whichever structure.
pub fn statfs(write: WriteStatfs, path: u64, address: u64) -> Result<usize> {
    write(&file_system(&find(AT_FDCWD, path, true)?), address)?;
    Ok(0)
}

/// `fstatfs` with whichever structure.
pub fn fstatfs(write: WriteStatfs, fd: u64, address: u64) -> Result<usize> {
    write(&file_system(&current().files.get_any(fd)?.location()), address)?;
    Ok(0)
}

fn set_permissions(inode: &Location, mode: u64) -> Result<usize> {
    inode.check_writable()?;
    if inode.is_symlink() {
        return Err(Errno::ENOTSUP);
    }
    let permissions = Some(mode as u32 & 0o7777);
    inode.set_attributes(&AttributeChange { permissions, ..Default::default() })?;
    Ok(0)
}

/// `chmod`.
pub fn sys_chmod(path: u64, mode: u64) -> Result<usize> {
    sys_fchmodat(AT_FDCWD, path, mode)
}

/// `fchmodat`.
pub fn sys_fchmodat(dirfd: u64, path: u64, mode: u64) -> Result<usize> {
    set_permissions(&find(dirfd, path, true)?, mode)
}

/// `fchmodat2`.
pub fn sys_fchmodat2(dirfd: u64, path: u64, mode: u64, flags: u64) -> Result<usize> {
    check_flags(flags as u32, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    set_permissions(&find_with_flags(dirfd, path, flags as u32)?, mode)
}

/// `fchmod`.
pub fn sys_fchmod(fd: u64, mode: u64) -> Result<usize> {
    set_permissions(&current().files.get(fd)?.location(), mode)
}

fn set_owner(inode: &Location, uid: u64, gid: u64) -> Result<usize> {
    inode.check_writable()?;
    let given = |id: u64| (id as u32 != u32::MAX).then_some(id as u32);
    let mut change = AttributeChange { uid: given(uid), gid: given(gid), ..Default::default() };
    // A program that changes hands no longer runs with its owner's rights.
    let Metadata { mode, .. } = inode.metadata();
    if mode & abi::S_IFMT == abi::S_IFREG && mode & 0o111 != 0 && mode & 0o6000 != 0 {
        let group = if mode & 0o010 != 0 { abi::S_ISGID } else { 0 };
        change.permissions = Some(mode & 0o7777 & !(abi::S_ISUID | group));
    }
    inode.set_attributes(&change)?;
    Ok(0)
}

/// `fchownat`.
pub fn sys_fchownat(dirfd: u64, path: u64, uid: u64, gid: u64, flags: u64) -> Result<usize> {
    check_flags(flags as u32, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    set_owner(&find_with_flags(dirfd, path, flags as u32)?, uid, gid)
}

/// `chown`.
pub fn sys_chown(path: u64, uid: u64, gid: u64) -> Result<usize> {
    set_owner(&find(AT_FDCWD, path, true)?, uid, gid)
}

/// `lchown`.
pub fn sys_lchown(path: u64, uid: u64, gid: u64) -> Result<usize> {
    set_owner(&find(AT_FDCWD, path, false)?, uid, gid)
}

/// `fchown`.
pub fn sys_fchown(fd: u64, uid: u64, gid: u64) -> Result<usize> {
    set_owner(&current().files.get(fd)?.location(), uid, gid)
}

/// Sets the times; None: leave it.
fn set_times(inode: &Location, accessed: Option<u64>, modified: Option<u64>) -> Result<usize> {
    inode.check_writable()?;
    inode.set_attributes(&AttributeChange { accessed, modified, ..Default::default() })?;
    Ok(0)
}

/// `utimensat`.
pub fn sys_utimensat(dirfd: u64, path: u64, times: u64, flags: u64) -> Result<usize> {
    utimensat(Width::Bits64, dirfd, path, times, flags)
}

/// `utimensat` with `timespec`s of this width.
pub fn utimensat(width: Width, dirfd: u64, path: u64, times: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    check_flags(flags, abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH)?;
    let now = time::realtime();
    let [accessed, modified] = match times {
        0 => [Some(now); 2],
        _ => {
            let mut result = [None; 2];
            for (n, to) in (0..).zip(&mut result) {
                let time = Timespec::read(width, times + n * 2 * width.word() as u64)?;
                let (seconds, nanoseconds) = (time.seconds, time.nanoseconds);
                *to = match nanoseconds {
                    _ if nanoseconds == abi::UTIME_OMIT as i64 => None,
                    _ if nanoseconds == abi::UTIME_NOW as i64 => Some(now),
                    0..1_000_000_000 => Some(from_parts(seconds, nanoseconds)),
                    _ => return Err(Errno::EINVAL),
                };
            }
            result
        }
    };
    // Without a path: the descriptor itself.
    let inode = match path {
        0 if dirfd as i32 == abi::AT_FDCWD => return Err(Errno::EFAULT),
        0 => current().files.get(dirfd)?.location(),
        _ => find_with_flags(dirfd, path, flags)?,
    };
    if accessed.is_none() && modified.is_none() {
        return Ok(0);
    }
    set_times(&inode, accessed, modified)
}

/// Times before the epoch are not kept.
fn from_parts(seconds: i64, nanoseconds: i64) -> Nanoseconds {
    (seconds.max(0) as u64).saturating_mul(SECOND).saturating_add(nanoseconds as u64)
}

/// `futimesat`, and `utimes` with the working directory.
pub fn sys_futimesat(dirfd: u64, path: u64, times: u64) -> Result<usize> {
    let [accessed, modified] = match times {
        0 => [time::realtime(); 2],
        _ => {
            let [a, b, c, d] = c_long::read(times)?;
            let given = [[a, b], [c, d]];
            if given.iter().any(|[_, microseconds]| !(0..1_000_000).contains(microseconds)) {
                return Err(Errno::EINVAL);
            }
            given.map(|[seconds, microseconds]| from_parts(seconds, microseconds * 1000))
        }
    };
    let inode = if path == 0 { current().files.get(dirfd)?.location() } else { find(dirfd, path, true)? };
    set_times(&inode, Some(accessed), Some(modified))
}

/// `utimes`.
pub fn sys_utimes(path: u64, times: u64) -> Result<usize> {
    sys_futimesat(AT_FDCWD, path, times)
}

/// `utime`: whole seconds.
pub fn sys_utime(path: u64, times: u64) -> Result<usize> {
    let [accessed, modified] = match times {
        0 => [time::realtime(); 2],
        _ => c_long::read(times)?.map(|seconds| from_parts(seconds, 0)),
    };
    set_times(&find(AT_FDCWD, path, true)?, Some(accessed), Some(modified))
}
