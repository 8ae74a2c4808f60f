//! What a name stands for: the trait that every kind of file system object implements.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::memory::backing::Backing;
use crate::memory::frames::Frame;
use crate::vfs::file::File;
use crate::vfs::mount::Location;
use crate::vfs::write_count::WriteCount;

/// Nanoseconds since the epoch.
pub type Nanoseconds = u64;

/// What `stat` reports about an object.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits (`S_IF*` and 0o7777).
    pub mode: u32,
    /// Number of names.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// For device nodes: which device (Linux's encoding, see [`device_number`]).
    pub rdev: u64,
    /// Length in bytes.
    pub size: u64,
    /// Memory it takes, in units of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Nanoseconds,
    /// Last write.
    pub modified: Nanoseconds,
    /// Last change of data or metadata.
    pub changed: Nanoseconds,
    /// Creation.
    pub created: Nanoseconds,
}

impl Metadata {
    /// Metadata of an object that is created now, owned by root.
    pub fn new(device: u64, ino: u64, mode: u32) -> Self {
        let now = crate::machine::time::realtime();
        Metadata {
            device,
            ino,
            mode,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            accessed: now,
            modified: now,
            changed: now,
            created: now,
        }
    }

    /// Makes `change`, now.
    pub fn apply(&mut self, change: &AttributeChange) {
        if let Some(permissions) = change.permissions {
            self.mode = self.mode & abi::S_IFMT | permissions & 0o7777;
        }
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
        self.accessed = change.accessed.unwrap_or(self.accessed);
        self.modified = change.modified.unwrap_or(self.modified);
        self.changed = crate::machine::time::realtime();
    }
}

/// A change of attributes; `None` leaves one as it is.
#[derive(Clone, Copy, Default)]
pub struct AttributeChange {
    /// New permission bits (0o7777).
    pub permissions: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New time of the last read.
    pub accessed: Option<Nanoseconds>,
    /// New time of the last write.
    pub modified: Option<Nanoseconds>,
}

/// One entry of a directory as `getdents64` reports it.
pub struct DirectoryEntry<'a> {
    /// The entry's name.
    pub name: &'a [u8],
    /// Its inode number.
    pub ino: u64,
    /// The type bits of its mode (`S_IFMT`).
    pub file_type: u32,
    /// The position after this entry: where the next `readdir` goes on.
    pub next: u64,
}

/// Takes the entries of a directory; false: it is full, and does not have this one.
pub type EntrySink<'a> = dyn FnMut(DirectoryEntry) -> bool + 'a;

/// A file, directory, symbolic link, device node, fifo, or one of the objects that only descriptors refer to.
///
/// Directory operations take names of one component, never empty, "." or "..". The defaults are what an object that
/// does not support the operation answers.
pub trait Inode: Backing {
    /// What `stat` reports.
    fn metadata(&self) -> Metadata;

    /// The type bits of the mode.
    fn file_type(&self) -> u32 {
        self.metadata().mode & abi::S_IFMT
    }

    /// Opens it with the status flags `flags` (access mode, `O_APPEND`, `O_NONBLOCK`, …).
    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>>;

    /// Changes attributes, as `chmod`, `chown` and `utimensat` do.
    fn set_attributes(&self, _change: &AttributeChange) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Cuts or extends (by a hole) to `size`.
    fn truncate(&self, _size: u64) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// The frame that holds page `index` of the data: the very one that `read` and `write` use, so that mappings are
    /// coherent with them. ENXIO beyond the end (the mapping's access is then a bus error). Called with the lock of an
    /// address space: it may not sleep.
    fn page(&self, _index: u64) -> Result<Frame> {
        Err(Errno::ENODEV)
    }

    /// It is about to be mapped; called with the lock of the address space. With `writes`, what programs write to the
    /// mapping reaches the file; false where a seal forbids such writes, now and for good.
    fn map(&self, _writes: bool) -> Result<bool> {
        Ok(true)
    }

    /// Who writes to it, for what programs can be started from.
    fn write_count(&self) -> Option<&WriteCount> {
        None
    }

    /// The entry `name` of this directory.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// The directory that contains this object, and its name there, where that is known. Directories know, but for the root of a file
    /// system, which is in none.
    fn parent(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        None
    }

    /// True when the last name has been removed.
    fn is_unlinked(&self) -> bool {
        false
    }

    /// Makes a file, directory, device node or fifo.
    fn create(&self, _name: &[u8], _mode: u32, _rdev: u64) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a symbolic link.
    fn symlink(&self, _name: &[u8], _target: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Makes a further name for `target`.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes the entry of something that is no directory.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves an entry to `new_dir` under `new_name`; `flags` are `RENAME_*`.
    fn rename(&self, _name: &[u8], _new_dir: &Arc<dyn Inode>, _new_name: &[u8], _flags: u32) -> Result<()> {
        Err(Errno::EXDEV)
    }

    /// Reports entries from `position` (0: the beginning) until the sink is full.
    fn readdir(&self, _position: u64, _sink: &mut EntrySink) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// The text of a symbolic link.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// For links that lead to an object and not to a name (`/proc/self/fd/0`): the object.
    fn jump(&self) -> Option<Result<Location>> {
        None
    }

    /// The name of an object that has no place in a directory (`pipe:[7]`), for `/proc/self/fd`.
    fn label(&self) -> Option<Vec<u8>> {
        None
    }

    /// Each look-up of its name makes another object: device and number say whether two are the same.
    fn is_made_anew(&self) -> bool {
        false
    }

    /// The magic number that `statfs` reports.
    fn file_system(&self) -> u32 {
        abi::TMPFS_MAGIC
    }
}

impl dyn Inode {
    /// True for directories.
    pub fn is_directory(&self) -> bool {
        self.file_type() == abi::S_IFDIR
    }

    /// True for directories with more than "." and "..".
    pub fn has_entries(&self) -> bool {
        let mut found = false;
        let _ = self.readdir(0, &mut |entry| {
            found = !matches!(entry.name, b"." | b"..");
            !found
        });
        found
    }

    /// True for symbolic links.
    pub fn is_symlink(&self) -> bool {
        self.file_type() == abi::S_IFLNK
    }

    /// The object as its own type, where it is one.
    pub fn downcast<T: Inode>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl<T: Inode> Backing for T {
    fn frame(&self, index: u64) -> Result<Frame> {
        self.page(index)
    }

    fn prepare_map(&self, writes: bool) -> Result<bool> {
        self.map(writes)
    }

    fn identity(&self) -> (u64, u64) {
        let metadata = self.metadata();
        (metadata.device, metadata.ino)
    }

    fn path(&self) -> String {
        path(self)
    }
}

/// The path of a file from the root, as far as it is known.
fn path(inode: &dyn Inode) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if inode.parent().is_none() {
        return inode.label().map_or(String::new(), |label| text(&label));
    }
    let mut path = text(&path_in_file_system(inode));
    if inode.is_unlinked() {
        path.push_str(" (deleted)");
    }
    path
}

/// The path of an object from the root of its file system.
pub fn path_in_file_system(inode: &dyn Inode) -> Vec<u8> {
    let mut names = Vec::new();
    let mut next = inode.parent();
    while let Some((directory, name)) = next {
        names.push(name);
        next = directory.parent();
    }
    joined(&names)
}

/// The path of these names, the last first.
pub(super) fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().rev().flat_map(|name| [b"/", &name[..]].concat()).collect()
}

/// True when both are the same object.
pub fn same(a: &Arc<dyn Inode>, b: &Arc<dyn Inode>) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

/// True when both are the same object, also of a file system that makes its objects anew for each who looks.
pub fn is_same_object(a: &Arc<dyn Inode>, b: &Arc<dyn Inode>) -> bool {
    same(a, b) || a.is_made_anew() && b.is_made_anew() && a.identity() == b.identity()
}

/// Linux's encoding of a device number in `st_rdev` and `mknod`.
pub const fn device_number(major: u32, minor: u32) -> u64 {
    ((minor & 0xff) | (major << 8)) as u64 | ((minor as u64 & !0xff) << 12)
}

/// The device number of a new file system that has no device.
pub fn new_device() -> u64 {
    /// Those before it are of the file systems that there are once.
    static NEXT: AtomicU32 = AtomicU32::new(32);
    device_number(0, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Major and minor of a device number.
pub const fn major_minor(device: u64) -> (u32, u32) {
    ((device >> 8) as u32 & 0xfff, (device & 0xff) as u32 | ((device >> 12) as u32 & !0xff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_encoded_as_linux_encodes_them() {
        // include/linux/kdev_t.h, new_encode_dev: eight bits of minor, twelve of major, the minor's rest.
        assert_eq!(device_number(4, 64), 0x440);
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(8, 0x12345), 0x1230_0845);
        for (major, minor) in [(0, 0), (4, 64), (0xfff, 0xf_ffff), (259, 0x100)] {
            assert_eq!(major_minor(device_number(major, minor)), (major, minor));
        }
    }

    #[test]
    fn a_change_of_permissions_keeps_the_type() {
        let mut metadata = Metadata::new(1, 2, abi::S_IFDIR | 0o755);
        metadata.apply(&AttributeChange { permissions: Some(0o17_1777), uid: Some(5), ..Default::default() });
        assert_eq!((metadata.mode, metadata.uid, metadata.gid), (abi::S_IFDIR | 0o1777, 5, 0));
    }
}
