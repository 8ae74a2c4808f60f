//! What files and file systems are, in i386's structures.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::calls::compat::uid16::narrow;
use crate::calls::fs::{BLOCK_SIZE, FileSystem, NAME_LENGTH};
use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::vfs::inode::{Metadata, Nanoseconds};

/// Seconds and nanoseconds.
fn split(time: Nanoseconds) -> [u32; 2] {
    const SECOND: u64 = 1_000_000_000;
    [(time / SECOND) as u32, (time % SECOND) as u32]
}

/// `struct stat64`: words, as 64-bit members are not aligned on i386.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Stat64 {
    device: [u32; 2],
    padding: u32,
    ino_low: u32,
    mode: u32,
    links: u32,
    uid: u32,
    gid: u32,
    rdev: [u32; 2],
    padding_2: u32,
    size: [u32; 2],
    block_size: u32,
    blocks: [u32; 2],
    accessed: [u32; 2],
    modified: [u32; 2],
    changed: [u32; 2],
    ino: [u32; 2],
}

const _: () = assert!(size_of::<Stat64>() == 96);

/// A 64-bit member.
const fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// For stat64(2) and its kin.
pub fn write_stat64(metadata: &Metadata, address: u64) -> Result<()> {
    let stat = Stat64 {
        device: words(metadata.device),
        padding: 0,
        ino_low: metadata.ino as u32,
        mode: metadata.mode,
        links: metadata.links,
        uid: metadata.uid,
        gid: metadata.gid,
        rdev: words(metadata.rdev),
        padding_2: 0,
        size: words(metadata.size),
        block_size: BLOCK_SIZE as u32,
        blocks: words(metadata.blocks),
        accessed: split(metadata.accessed),
        modified: split(metadata.modified),
        changed: split(metadata.changed),
        ino: words(metadata.ino),
    };
    user::write(address, &stat)
}

/// `struct stat`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    device: u32,
    ino: u32,
    mode: u16,
    links: u16,
    uid: u16,
    gid: u16,
    rdev: u32,
    size: u32,
    block_size: u32,
    blocks: u32,
    accessed: [u32; 2],
    modified: [u32; 2],
    changed: [u32; 2],
    unused: [u32; 2],
}

const _: () = assert!(size_of::<Stat>() == 64);

/// For stat(2) and its kin. EOVERFLOW for what does not fit.
pub fn write_stat(metadata: &Metadata, address: u64) -> Result<()> {
    let fit = |value: u64| u32::try_from(value).map_err(|_| Errno::EOVERFLOW);
    let stat = Stat {
        device: metadata.device as u32,
        ino: fit(metadata.ino)?,
        mode: metadata.mode as u16,
        links: u16::try_from(metadata.links).map_err(|_| Errno::EOVERFLOW)?,
        uid: narrow(metadata.uid),
        gid: narrow(metadata.gid),
        rdev: metadata.rdev as u32,
        size: i32::try_from(metadata.size).map_err(|_| Errno::EOVERFLOW)? as u32,
        block_size: BLOCK_SIZE as u32,
        blocks: metadata.blocks as u32,
        accessed: split(metadata.accessed),
        modified: split(metadata.modified),
        changed: split(metadata.changed),
        unused: [0; 2],
    };
    user::write(address, &stat)
}

/// For statfs(2): 16 words.
pub fn write_statfs(of: &FileSystem, address: u64) -> Result<()> {
    let fit = |value: u64| u32::try_from(value).map_err(|_| Errno::EOVERFLOW);
    let [id_low, id_high] = words(of.id);
    let (blocks, free) = (fit(of.blocks)?, fit(of.free)?);
    let block_size = BLOCK_SIZE as u32;
    let statfs: [u32; 16] =
        [of.kind, block_size, blocks, free, free, 0, 0, id_low, id_high, NAME_LENGTH, block_size, of.flags, 0, 0, 0, 0];
    user::write(address, &statfs)
}

/// Words of `struct statfs64`, in which 64-bit members are not aligned.
const STATFS64_WORDS: usize = 21;

/// The size that the program says its `struct statfs64` has.
pub fn check_statfs64_size(size: u64) -> Result<()> {
    if size == size_of::<[u32; STATFS64_WORDS]>() as u64 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// For statfs64(2).
pub fn write_statfs64(of: &FileSystem, address: u64) -> Result<()> {
    let mut fields = [0u32; STATFS64_WORDS];
    fields[0] = of.kind;
    fields[1] = BLOCK_SIZE as u32;
    for (at, value) in [(2, of.blocks), (4, of.free), (6, of.free), (12, of.id)] {
        fields[at..at + 2].copy_from_slice(&words(value));
    }
    fields[14] = NAME_LENGTH;
    fields[15] = BLOCK_SIZE as u32;
    fields[16] = of.flags;
    user::write(address, &fields)
}
