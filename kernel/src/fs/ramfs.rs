//! The file system: everything in memory.
//!
//! Names form a tree of [`RamInode`]s; the data of a regular file lives in page frames (`ramfs_file.rs`) that
//! mappings share. One lock, [`NAMESPACE`], serialises all changes of the tree, so that a change that touches two
//! directories is checked and made as one; look-ups take only the directory's own lock.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::pipe::Fifo;
use crate::fs::ramfs_directory::{Directory, FIRST_ENTRY};
use crate::fs::ramfs_file::Data;
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::memory::frames::Frame;
use crate::memory::new_ino;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{DirectoryOps, File, FileOps};
use crate::vfs::inode::{AttributeChange, DirectoryEntry, EntrySink, Inode, Metadata, Nanoseconds};
use crate::vfs::write_count::WriteCount;

/// The device number of the first one: that of the root, and of what has no name.
pub const DEVICE: u64 = crate::vfs::inode::device_number(0, 1);

/// Held while names are added, removed or moved.
static NAMESPACE: SpinLock<()> = SpinLock::new(());

/// A file, directory, link, device node or fifo in memory.
pub struct RamInode {
    this: Weak<RamInode>,
    device: u64,
    ino: u64,
    file_type: u32,
    rdev: u64,
    pub(super) attributes: SpinLock<Attributes>,
    place: SpinLock<Place>,
    content: Content,
}

pub(super) struct Attributes {
    permissions: u32,
    links: u32,
    uid: u32,
    gid: u32,
    accessed: Nanoseconds,
    modified: Nanoseconds,
    changed: Nanoseconds,
    created: Nanoseconds,
}

impl Attributes {
    /// Data was read: the time of access moves if it would otherwise be older than the last change, as Linux's
    /// `relatime` has it.
    pub(super) fn touch_accessed(&mut self) {
        if self.accessed <= self.modified || self.accessed <= self.changed {
            self.accessed = time::realtime();
        }
    }

    /// Data was written: set-user-ID bits are kept, as they are when root writes.
    pub(super) fn touch_modified(&mut self) {
        self.modified = time::realtime();
        self.changed = self.modified;
    }
}

/// Where an inode was last given a name. Exact for directories, which have only one.
#[derive(Default)]
struct Place {
    directory: Weak<RamInode>,
    name: Box<[u8]>,
    removed: bool,
    /// The next directory that goes with a file system.
    next_to_go: Option<Arc<RamInode>>,
}

enum Content {
    Regular(Data),
    Directory(SpinLock<Directory>),
    Symlink(Box<[u8]>),
    Fifo(Fifo),
    /// Device nodes and sockets: all there is is the number.
    Node,
}

impl RamInode {
    /// The root directory of an empty file system, which has this device number.
    pub fn new_root(device: u64) -> Arc<RamInode> {
        Self::new(device, abi::S_IFDIR | 0o755, 0, Content::Directory(SpinLock::default()))
    }

    /// A regular file without a name (`memfd_create`, `O_TMPFILE`).
    pub fn new_anonymous(device: u64, mode: u32, data: Data) -> Arc<RamInode> {
        let inode = Self::new(device, abi::S_IFREG | mode & 0o7777, 0, Content::Regular(data));
        inode.attributes.lock().links = 0;
        inode.place.lock().removed = true;
        inode
    }

    fn new(device: u64, mode: u32, rdev: u64, content: Content) -> Arc<RamInode> {
        let now = time::realtime();
        Arc::new_cyclic(|this| RamInode {
            this: this.clone(),
            device,
            ino: new_ino(),
            file_type: mode & abi::S_IFMT,
            rdev,
            attributes: SpinLock::new(Attributes {
                permissions: mode & 0o7777,
                links: 1,
                uid: 0,
                gid: 0,
                accessed: now,
                modified: now,
                changed: now,
                created: now,
            }),
            place: SpinLock::default(),
            content,
        })
    }

    /// A reference to keep.
    pub fn to_arc(&self) -> Option<Arc<RamInode>> {
        self.this.upgrade()
    }

    /// The data of a regular file.
    pub fn data(&self) -> Option<&Data> {
        match &self.content {
            Content::Regular(data) => Some(data),
            _ => None,
        }
    }

    fn directory(&self) -> Result<&SpinLock<Directory>> {
        match &self.content {
            Content::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Notes that it now has a name `name` in `directory`.
    fn set_place(&self, directory: &RamInode, name: &[u8]) {
        *self.place.lock() =
            Place { directory: directory.this.clone(), name: name.into(), removed: false, next_to_go: None };
    }

    /// Adds `inode` under a new name. To be called with `NAMESPACE` held.
    fn insert(&self, name: &[u8], inode: Arc<dyn Inode>) -> Result<()> {
        let mut directory = self.directory()?.lock();
        if directory.removed {
            return Err(Errno::ENOENT);
        }
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        if let Some(inode) = inode.downcast::<RamInode>() {
            inode.set_place(self, name);
        }
        directory.put(name, inode);
        drop(directory);
        self.attributes.lock().touch_modified();
        Ok(())
    }

    fn add_new(&self, name: &[u8], inode: Arc<RamInode>) -> Result<()> {
        let parent_group = {
            let attributes = self.attributes.lock();
            (attributes.permissions & abi::S_ISGID != 0).then_some(attributes.gid)
        };
        if let Some(gid) = parent_group {
            let mut attributes = inode.attributes.lock();
            attributes.gid = gid;
            if inode.file_type == abi::S_IFDIR {
                attributes.permissions |= abi::S_ISGID;
            }
        }
        let _namespace = NAMESPACE.lock();
        self.insert(name, inode)
    }

    /// Adds a name for a file without one (`linkat` of an `O_TMPFILE`), or a further one.
    fn gained_name(&self) {
        let mut attributes = self.attributes.lock();
        attributes.links += 1;
        attributes.changed = time::realtime();
    }

    /// Notes that one name is gone: all of them for a directory.
    fn lost_name(&self, directory: &RamInode, name: &[u8]) {
        {
            let mut attributes = self.attributes.lock();
            attributes.links -= 1;
            attributes.changed = time::realtime();
        }
        let mut place = self.place.lock();
        if core::ptr::eq(place.directory.as_ptr(), directory) && *place.name == *name {
            place.removed = true;
        }
    }

    /// True if `self` is `other` or contains it.
    fn contains(&self, other: &RamInode) -> bool {
        let mut current = other.this.upgrade();
        while let Some(inode) = current {
            if core::ptr::eq(&*inode, self) {
                return true;
            }
            current = inode.place.lock().directory.upgrade();
        }
        false
    }

    /// Whether `new` may take the place of `old`, as `rename` has it.
    fn check_replace(new: &RamInode, old: &RamInode) -> Result<()> {
        match (&new.content, &old.content) {
            (Content::Directory(_), Content::Directory(old)) if old.lock().by_name.is_empty() => Ok(()),
            (Content::Directory(_), Content::Directory(_)) => Err(Errno::ENOTEMPTY),
            (Content::Directory(_), _) => Err(Errno::ENOTDIR),
            (_, Content::Directory(_)) => Err(Errno::EISDIR),
            _ => Ok(()),
        }
    }

    /// Takes `name` out, marks it removed, and returns it so that it is dropped without locks.
    fn remove(&self, name: &[u8], check: impl Fn(&RamInode) -> Result<()>) -> Result<Arc<dyn Inode>> {
        let _namespace = NAMESPACE.lock();
        let inode = self.lookup(name)?;
        // What is no RamInode is a mount point.
        let ram = inode.downcast::<RamInode>().ok_or(Errno::EBUSY)?;
        check(ram)?;
        let removed = self.directory()?.lock().take(name);
        self.attributes.lock().touch_modified();
        ram.mark_removed(self, name);
        drop(removed);
        Ok(inode)
    }

    fn mark_removed(&self, directory: &RamInode, name: &[u8]) {
        if let Content::Directory(entries) = &self.content {
            entries.lock().removed = true;
        }
        self.lost_name(directory, name);
    }
}

/// A directory that goes with its file system takes what is below it along, however deep that is: one after the other, as a recursion
/// would need more stack than there is.
impl Drop for RamInode {
    fn drop(&mut self) {
        let mut to_go = None;
        self.give_up_entries(&mut to_go);
        while let Some(directory) = to_go {
            to_go = directory.place.lock().next_to_go.take();
            directory.give_up_entries(&mut to_go);
        }
    }
}

impl RamInode {
    /// Drops the entries of a directory that nobody can reach, but puts those directories that nobody else has before `to_go`.
    fn give_up_entries(&self, to_go: &mut Option<Arc<RamInode>>) {
        let Content::Directory(directory) = &self.content else { return };
        let entries = core::mem::take(&mut *directory.lock()).by_name;
        for (_, inode) in entries.into_values() {
            let is_last = Arc::strong_count(&inode) == 1 && inode.is_directory();
            let Some(ram) = inode.downcast::<RamInode>().filter(|_| is_last).and_then(RamInode::to_arc) else {
                continue;
            };
            let before = to_go.replace(ram.clone());
            ram.place.lock().next_to_go = before;
        }
    }
}

impl Inode for RamInode {
    fn metadata(&self) -> Metadata {
        let (size, blocks, subdirectories) = match &self.content {
            Content::Regular(data) => (data.size(), data.blocks(), 0),
            Content::Symlink(target) => (target.len() as u64, 0, 0),
            Content::Directory(directory) => {
                let directory = directory.lock();
                // What tmpfs reports: 20 for each entry, "." and ".." included.
                let size = 20 * (directory.by_name.len() as u64 + 2);
                (size, 0, if directory.removed { 0 } else { 1 + directory.subdirectories })
            }
            Content::Fifo(_) | Content::Node => (0, 0, 0),
        };
        let attributes = self.attributes.lock();
        Metadata {
            device: self.device,
            ino: self.ino,
            mode: self.file_type | attributes.permissions,
            links: attributes.links + subdirectories,
            uid: attributes.uid,
            gid: attributes.gid,
            rdev: self.rdev,
            size,
            blocks,
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            created: attributes.created,
        }
    }

    fn file_type(&self) -> u32 {
        self.file_type
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        let inode: Arc<dyn Inode> = self.clone();
        match &self.content {
            Content::Regular(_) => File::counted(inode, self as Arc<dyn FileOps>, flags),
            Content::Directory(_) => Ok(File::new(inode, Arc::new(DirectoryOps), flags)),
            Content::Symlink(_) => Err(Errno::ELOOP),
            Content::Fifo(fifo) => fifo.open(inode, flags),
            Content::Node => super::devices::open(inode, self.file_type, self.rdev, flags),
        }
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        let mut attributes = self.attributes.lock();
        if let Some(permissions) = change.permissions {
            attributes.permissions = permissions & 0o7777;
        }
        if let Some(uid) = change.uid {
            attributes.uid = uid;
        }
        if let Some(gid) = change.gid {
            attributes.gid = gid;
        }
        if let Some(accessed) = change.accessed {
            attributes.accessed = accessed;
        }
        if let Some(modified) = change.modified {
            attributes.modified = modified;
        }
        attributes.changed = time::realtime();
        Ok(())
    }

    fn truncate(&self, size: u64) -> Result<()> {
        let data = match &self.content {
            Content::Directory(_) => return Err(Errno::EISDIR),
            _ => self.data().ok_or(Errno::EINVAL)?,
        };
        data.truncate(self, size)?;
        self.attributes.lock().touch_modified();
        Ok(())
    }

    fn page(&self, index: u64) -> Result<Frame> {
        self.data().ok_or(Errno::ENODEV)?.page(index)
    }

    fn map(&self, writes: bool) -> Result<bool> {
        self.data().ok_or(Errno::ENODEV)?.map(writes)
    }

    fn write_count(&self) -> Option<&WriteCount> {
        Some(&self.data()?.writers)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.directory()?.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn parent(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let place = self.place.lock();
        Some((place.directory.upgrade()?, place.name.to_vec()))
    }

    fn is_unlinked(&self) -> bool {
        self.place.lock().removed
    }

    fn label(&self) -> Option<Vec<u8>> {
        self.data()?.label()
    }

    fn create(&self, name: &[u8], mode: u32, rdev: u64) -> Result<Arc<dyn Inode>> {
        let content = match mode & abi::S_IFMT {
            abi::S_IFREG => Content::Regular(Data::new()),
            abi::S_IFDIR => Content::Directory(SpinLock::default()),
            abi::S_IFIFO => Content::Fifo(Fifo::new()),
            abi::S_IFCHR | abi::S_IFBLK | abi::S_IFSOCK => Content::Node,
            _ => return Err(Errno::EINVAL),
        };
        let inode = Self::new(self.device, mode, rdev, content);
        self.add_new(name, inode.clone())?;
        Ok(inode)
    }

    fn symlink(&self, name: &[u8], target: &[u8]) -> Result<()> {
        self.add_new(name, Self::new(self.device, abi::S_IFLNK | 0o777, 0, Content::Symlink(target.into())))
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let ram = target.downcast::<RamInode>().ok_or(Errno::EXDEV)?;
        if ram.file_type == abi::S_IFDIR {
            return Err(Errno::EPERM);
        }
        if ram.device != self.device {
            return Err(Errno::EXDEV);
        }
        let _namespace = NAMESPACE.lock();
        self.insert(name, target.clone())?;
        ram.gained_name();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove(name, |inode| match inode.content {
            Content::Directory(_) => Err(Errno::EISDIR),
            _ => Ok(()),
        })?;
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove(name, |inode| match inode.directory()?.lock().by_name.is_empty() {
            true => Ok(()),
            false => Err(Errno::ENOTEMPTY),
        })?;
        Ok(())
    }

    fn rename(&self, name: &[u8], new_dir: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        let new_dir = new_dir.downcast::<RamInode>().filter(|dir| dir.device == self.device).ok_or(Errno::EXDEV)?;
        // Declared before the lock, so that what is replaced is dropped after it.
        let replaced;
        let _namespace = NAMESPACE.lock();
        let moved = self.lookup(name)?;
        let existing = match new_dir.lookup(new_name) {
            Ok(inode) => Some(inode),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        };
        let moved_ram = moved.downcast::<RamInode>().ok_or(Errno::EBUSY)?;
        if new_dir.directory()?.lock().removed {
            return Err(Errno::ENOENT);
        }
        if moved_ram.contains(new_dir) {
            return Err(Errno::EINVAL);
        }
        let exchange = flags & abi::RENAME_EXCHANGE != 0;
        if let Some(existing) = &existing {
            if flags & abi::RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if crate::vfs::inode::same(existing, &moved) {
                return Ok(());
            }
            let existing = existing.downcast::<RamInode>().ok_or(Errno::EBUSY)?;
            if exchange {
                if existing.contains(self) {
                    return Err(Errno::EINVAL);
                }
            } else if existing.contains(self) {
                return Err(Errno::ENOTEMPTY);
            } else {
                Self::check_replace(moved_ram, existing)?;
            }
        } else if exchange {
            return Err(Errno::ENOENT);
        }
        // The new name first: no look-up finds neither.
        replaced = new_dir.directory()?.lock().put(new_name, moved.clone());
        let old = match existing.as_ref().filter(|_| exchange) {
            Some(existing) => self.directory()?.lock().put(name, existing.clone()),
            None => self.directory()?.lock().take(name),
        };
        drop(old);
        moved_ram.set_place(new_dir, new_name);
        moved_ram.attributes.lock().changed = time::realtime();
        if let Some(existing) = replaced.as_ref().and_then(|inode| inode.downcast::<RamInode>()) {
            if exchange {
                existing.set_place(self, name);
            } else {
                existing.mark_removed(new_dir, new_name);
            }
        }
        self.attributes.lock().touch_modified();
        new_dir.attributes.lock().touch_modified();
        Ok(())
    }

    fn readdir(&self, position: u64, sink: &mut EntrySink) -> Result<()> {
        let up = self.place.lock().directory.upgrade().map_or(self.ino, |parent| parent.ino);
        let directory = self.directory()?.lock();
        let own = [(&b"."[..], self.ino), (&b".."[..], up)];
        for (index, &(name, ino)) in own.iter().enumerate().skip(position.min(FIRST_ENTRY) as usize) {
            let entry = DirectoryEntry { name, ino, file_type: abi::S_IFDIR, next: index as u64 + 1 };
            if !sink(entry) {
                return Ok(());
            }
        }
        for (&number, name) in directory.by_number.range(position..) {
            let (_, inode) = &directory.by_name[name];
            let (ino, file_type) = match inode.downcast::<RamInode>() {
                Some(ram) => (ram.ino, ram.file_type),
                None => (inode.metadata().ino, inode.file_type()),
            };
            if !sink(DirectoryEntry { name, ino, file_type, next: number + 1 }) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl FileOps for RamInode {
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Destination, position: &mut u64) -> Result<usize> {
        let data = self.data().ok_or(Errno::EINVAL)?;
        let result = data.read(to, position);
        self.attributes.lock().touch_accessed();
        to.finish(result)
    }

    fn write(&self, file: &File, from: &mut Source, position: &mut u64) -> Result<usize> {
        let data = self.data().ok_or(Errno::EINVAL)?;
        let result = data.write(from, position, file.flags() & abi::O_APPEND != 0);
        self.attributes.lock().touch_modified();
        from.finish(result)
    }
}

#[cfg(test)]
mod tests;
