//! Unpacks the initramfs: a cpio archive in the "newc" format.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::ramfs::RamInode;
use crate::vfs::inode::{AttributeChange, Inode, device_number, same};

const MAGIC: &[u8] = b"070701";
const MAGIC_WITH_CHECKSUM: &[u8] = b"070702";
/// Magic and 13 fields of eight hexadecimal digits.
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// The longest name in a directory, and the longest target of a symbolic link.
const NAME_MAX: usize = 255;
const TARGET_MAX: usize = 4095;

/// One file of the archive.
struct Entry<'a> {
    ino: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    modified: u32,
    device: (u32, u32),
    rdev: (u32, u32),
    name: &'a [u8],
    pub data: &'a [u8],
}

/// Reads one entry; returns it and the rest of the archive.
fn parse(archive: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let header = archive.get(..HEADER)?;
    if !header.starts_with(MAGIC) && !header.starts_with(MAGIC_WITH_CHECKSUM) {
        return None;
    }
    let mut fields = [0u32; 13];
    for (field, digits) in fields.iter_mut().zip(header[MAGIC.len()..].chunks_exact(8)) {
        *field = u32::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let [ino, mode, uid, gid, links, modified, size, major, minor, rmajor, rminor, name_size, _check] = fields;
    let name_end = HEADER + name_size as usize;
    let name = archive.get(HEADER..name_end)?.strip_suffix(b"\0")?;
    let start = name_end.next_multiple_of(4);
    let end = start.checked_add(size as usize)?;
    let data = archive.get(start..end)?;
    // For Linux names are C strings.
    let name = up_to_nul(name);
    let entry =
        Entry { ino, mode, uid, gid, links, modified, device: (major, minor), rdev: (rmajor, rminor), name, data };
    Some((entry, archive.get(end.next_multiple_of(4)..).unwrap_or(&[])))
}

fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The names of a path, without what stays where it is.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// Whether an archive may give a file this name: ".." would lead out of the directory that it is in.
fn check(name: &[u8]) -> Result<()> {
    match name {
        b".." => Err(Errno::EINVAL),
        _ if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

/// Puts the files of `archive` below `root`. Archives may follow each other, with zeros between.
pub fn unpack(mut archive: &[u8], root: &Arc<RamInode>) -> Result<()> {
    let mut linked = BTreeMap::new();
    let mut directory = Directory { path: &[], inode: root.clone() };
    loop {
        let zeros = archive.iter().take_while(|&&byte| byte == 0).count();
        archive = &archive[zeros..];
        if archive.is_empty() {
            return Ok(());
        }
        let (entry, rest) = parse(archive).ok_or(Errno::EINVAL)?;
        archive = rest;
        if entry.name == TRAILER {
            linked.clear();
            continue;
        }
        let Some(name) = names(entry.name).last() else {
            root.set_attributes(&attributes(&entry))?;
            continue;
        };
        check(name)?;
        let parent = &entry.name[..name.as_ptr().addr() - entry.name.as_ptr().addr()];
        if directory.path != parent {
            directory = Directory { path: parent, inode: make_directories(root, parent)? };
        }
        let key = (entry.device, entry.ino);
        let inode = match linked.get(&key) {
            Some(first) if entry.links > 1 && entry.mode & abi::S_IFMT == abi::S_IFREG => {
                let first: &Arc<dyn Inode> = first;
                link(&directory.inode, name, first)?;
                first.clone()
            }
            _ => make(&directory.inode, name, &entry)?,
        };
        // Of files with several names, only one entry has the data; it may be the last.
        if !entry.data.is_empty()
            && let Some(data) = inode.downcast::<RamInode>().and_then(RamInode::data)
        {
            data.fill(entry.data)?;
        }
        inode.set_attributes(&attributes(&entry))?;
        if entry.links > 1 {
            linked.insert(key, inode);
        }
    }
}

/// The directory that the last entry was in: the next one probably is, too.
struct Directory<'a> {
    path: &'a [u8],
    inode: Arc<RamInode>,
}

fn attributes(entry: &Entry) -> AttributeChange {
    let modified = Some(entry.modified as u64 * 1_000_000_000);
    AttributeChange {
        permissions: (entry.mode & abi::S_IFMT != abi::S_IFLNK).then_some(entry.mode & 0o7777),
        uid: Some(entry.uid),
        gid: Some(entry.gid),
        accessed: modified,
        modified,
    }
}

/// Gives a file of this archive one more name.
fn link(directory: &Arc<RamInode>, name: &[u8], file: &Arc<dyn Inode>) -> Result<()> {
    match directory.lookup(name) {
        Ok(existing) if same(&existing, file) => return Ok(()),
        // As in `make`.
        Ok(_) => directory.unlink(name)?,
        Err(_) => {}
    }
    directory.link(name, file)
}

fn make(directory: &Arc<RamInode>, name: &[u8], entry: &Entry) -> Result<Arc<dyn Inode>> {
    if let Ok(existing) = directory.lookup(name) {
        if existing.is_directory() && entry.mode & abi::S_IFMT == abi::S_IFDIR {
            return Ok(existing);
        }
        // A later archive replaces files of an earlier one.
        directory.unlink(name)?;
    }
    if entry.mode & abi::S_IFMT == abi::S_IFLNK {
        let target = up_to_nul(entry.data);
        if !(1..=TARGET_MAX).contains(&target.len()) {
            return Err(Errno::EINVAL);
        }
        directory.symlink(name, target)?;
        return directory.lookup(name);
    }
    directory.create(name, entry.mode, device_number(entry.rdev.0, entry.rdev.1))
}

/// The directory `path` below `root`, made with its parents where it is missing.
pub fn make_directories(root: &Arc<RamInode>, path: &[u8]) -> Result<Arc<RamInode>> {
    let mut inode = root.clone();
    for name in names(path) {
        check(name)?;
        let next = match inode.lookup(name) {
            Err(Errno::ENOENT) => inode.create(name, abi::S_IFDIR | 0o755, 0)?,
            other => other?,
        };
        inode = next.downcast::<RamInode>().and_then(RamInode::to_arc).ok_or(Errno::ENOTDIR)?;
    }
    Ok(inode)
}

#[cfg(test)]
mod tests;
