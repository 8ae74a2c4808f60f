//! `/proc`: what the kernel knows, as files; and `/sys`, which is made in the same way (`sysfs.rs`).
//!
//! The tree is described by tables ([`Entry`]); inodes are made when a name is looked up. The texts about the machine
//! are in `machine.rs`, those about a process in `process.rs`.

mod entry;
mod machine;
mod memory;
mod mounts;
mod namespaces;
mod process;
mod sysfs;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::proc::entry::{Entry, Kind, Subject};
use crate::fs::seq_file::SeqFile;
use crate::task;
use crate::task::pid::namespace::Namespace;
use crate::task::pid::{Pid, numbers};
use crate::vfs::buffer::Source;
use crate::vfs::file::{DirectoryOps, File, FileOps};
use crate::vfs::inode::{DirectoryEntry, EntrySink, Inode, Metadata, new_device};
use crate::vfs::mount::Location;

/// One file, directory or link of `/proc`.
struct ProcInode {
    parent: Option<Arc<ProcInode>>,
    name: Vec<u8>,
    kind: Kind,
    /// The process or thread it is about; 0 for none.
    id: Pid,
    /// What its file system shows, and that one's device number.
    namespace: Namespace,
    device: u64,
    /// Of its path.
    hash: u64,
    ino: u64,
    this: alloc::sync::Weak<ProcInode>,
}

/// The root of a `/proc` that shows this namespace.
pub fn root(namespace: Namespace) -> Arc<dyn Inode> {
    new_inode(None, (namespace, new_device()), b"proc", Kind::Root, 0)
}

/// The process whose directory this is, if it is one of `/proc`.
pub fn process_of(inode: &dyn Inode) -> Option<Pid> {
    let inode = inode.downcast::<ProcInode>()?;
    matches!(inode.kind, Kind::Process { is_thread: false }).then_some(inode.id)
}

/// The root of a `/sys`.
pub fn sysfs_root() -> Arc<dyn Inode> {
    new_inode(None, (None, new_device()), b"sys", Kind::Directory(sysfs::ENTRIES), 0)
}

fn new_inode(
    parent: Option<Arc<ProcInode>>,
    (namespace, device): (Namespace, u64),
    name: &[u8],
    kind: Kind,
    id: Pid,
) -> Arc<ProcInode> {
    // A number that stays the same however often the name is looked up: FNV-1a of its path. It has 32 bits, as 32-bit
    // programs without large-file support see no others.
    let start = parent.as_ref().map_or(0xcbf2_9ce4_8422_2325, |parent| parent.hash.wrapping_mul(31));
    let hash = name.iter().fold(start, |hash, &byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3));
    Arc::new_cyclic(|this| ProcInode {
        parent,
        name: name.into(),
        kind,
        id,
        namespace,
        device,
        hash,
        ino: ((hash >> 32 ^ hash) & u64::from(u32::MAX)).max(1),
        this: this.clone(),
    })
}

impl ProcInode {
    fn child(&self, name: &[u8], kind: Kind, id: Pid) -> Arc<ProcInode> {
        new_inode(self.this.upgrade(), (self.namespace.clone(), self.device), name, kind, id)
    }

    fn subject(&self) -> Result<Subject> {
        Subject::find(self.id, &self.namespace)
    }

    /// The fixed names in this directory.
    fn entries(&self) -> &'static [Entry] {
        match self.kind {
            Kind::Root => machine::ENTRIES,
            Kind::Directory(entries) => entries,
            Kind::Process { .. } => process::ENTRIES,
            _ => &[],
        }
    }

    /// The names in this directory that are numbers.
    fn numbers(&self) -> Result<Vec<u64>> {
        match self.kind {
            Kind::Root => {
                let all = task::tree::all();
                let seen = all.iter().map(|process| numbers::seen_in(&self.namespace, process.pid));
                Ok(seen.filter(|&number| number != 0).map(|number| number as u64).collect())
            }
            Kind::Threads => {
                let process = self.subject()?.process;
                // The first thread's number stays after its end.
                let others = process.threads().into_iter().map(|task| task.tid());
                let others = others.filter(|&tid| tid != process.pid);
                let all = core::iter::once(process.pid).chain(others);
                Ok(all.map(|tid| numbers::seen_in(&self.namespace, tid) as u64).collect())
            }
            Kind::Descriptors { .. } => {
                let subject = self.subject()?;
                Ok(subject.task()?.files.share().map_or_else(Vec::new, |files| files.descriptors()))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What the number `number` in this directory stands for, and which process it is about.
    fn numbered(&self, number: u64) -> (Kind, Pid) {
        match self.kind {
            Kind::Root => (Kind::Process { is_thread: false }, self.meant(number)),
            Kind::Threads => (Kind::Process { is_thread: true }, self.meant(number)),
            Kind::Descriptors { info: true } => (Kind::DescriptorInfo(number), self.id),
            _ => (Kind::Descriptor(number), self.id),
        }
    }

    /// The id with this number.
    fn meant(&self, number: u64) -> Pid {
        numbers::meant_in(&self.namespace, number as Pid)
    }

    fn number_exists(&self, number: u64) -> bool {
        match self.kind {
            // Threads are found here, too, though they are not listed.
            Kind::Root => Subject::find(self.meant(number), &self.namespace).is_ok(),
            _ => self.numbers().is_ok_and(|numbers| numbers.contains(&number)),
        }
    }
}

/// A canonical decimal number.
fn parse_number(name: &[u8]) -> Option<u64> {
    let number: u64 = core::str::from_utf8(name).ok()?.parse().ok()?;
    (format!("{number}").as_bytes() == name && number <= i32::MAX as u64).then_some(number)
}

impl Inode for ProcInode {
    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new(self.device, self.ino, self.kind.mode());
        if let Kind::Descriptor(fd) = self.kind
            && let Ok(file) = self.descriptor(fd)
        {
            // The link's permissions say how the file is open.
            let (read, write) = (file.is_readable() as u32, file.is_writable() as u32);
            metadata.mode = abi::S_IFLNK | 0o100 | read << 8 | write << 7;
        }
        if self.is_directory_kind() {
            metadata.links = 2;
        }
        metadata
    }

    fn file_type(&self) -> u32 {
        self.kind.mode() & abi::S_IFMT
    }

    fn file_system(&self) -> u32 {
        let mut root = self;
        while let Some(parent) = &root.parent {
            root = parent;
        }
        if matches!(root.kind, Kind::Root) { abi::PROC_SUPER_MAGIC } else { abi::SYSFS_MAGIC }
    }

    fn is_made_anew(&self) -> bool {
        true
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        let (id, namespace) = (self.id, self.namespace.clone());
        let find = move || Subject::find(id, &namespace);
        let ops: Arc<dyn FileOps> = match self.kind {
            Kind::Machine(make) => Arc::new(SeqFile::new(move || Ok(make()))),
            Kind::Setting(make, change) => {
                Arc::new(Changeable { read: SeqFile::new(move || Ok(make())), change: move |text: &[u8]| change(text) })
            }
            Kind::Text(make) => Arc::new(SeqFile::new(move || make(&find()?))),
            Kind::Private(_, make) => {
                find()?.check_access()?;
                Arc::new(SeqFile::new(move || make(&find()?)))
            }
            Kind::ProcessSetting(make, change) => Arc::new(Changeable {
                read: {
                    let find = find.clone();
                    SeqFile::new(move || make(&find()?))
                },
                change: move |text: &[u8]| change(&find()?, text),
            }),
            Kind::DescriptorInfo(fd) => {
                find()?.check_access()?;
                Arc::new(SeqFile::new(move || process::descriptor_info(&find()?, fd)))
            }
            Kind::Descriptors { .. } => {
                find()?.check_access()?;
                Arc::new(DirectoryOps)
            }
            Kind::Memory => Arc::new(memory::Memory::open(&find()?)?),
            Kind::Link(_) | Kind::Object(_) | Kind::Descriptor(_) => return Err(Errno::ELOOP),
            _ => Arc::new(DirectoryOps),
        };
        Ok(File::new(self, ops, flags))
    }

    fn parent(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let parent: Arc<dyn Inode> = self.parent.clone()?;
        Some((parent, self.name.clone()))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !self.is_directory_kind() {
            return Err(Errno::ENOTDIR);
        }
        if let Some(entry) = self.entries().iter().find(|entry| entry.name.as_bytes() == name) {
            // A thread has no threads.
            if !(matches!(entry.kind, Kind::Threads) && self.is_thread()) {
                return Ok(self.child(name, entry.kind, self.id));
            }
        }
        if matches!(self.kind, Kind::Descriptors { .. }) {
            self.subject()?.check_access()?;
        }
        let number = parse_number(name).filter(|&number| self.number_exists(number)).ok_or(Errno::ENOENT)?;
        let (kind, id) = self.numbered(number);
        Ok(self.child(name, kind, id))
    }

    fn create(&self, _name: &[u8], _mode: u32, _rdev: u64) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn truncate(&self, _size: u64) -> Result<()> {
        // `echo x >/proc/sys/...` truncates first.
        Ok(())
    }

    fn readdir(&self, position: u64, sink: &mut EntrySink) -> Result<()> {
        /// Positions of names that are numbers: above those of all fixed names.
        const NUMBERS: u64 = 1 << 16;
        let up = self.parent.as_ref().map_or(self.ino, |parent| parent.ino);
        let hidden = |entry: &Entry| matches!(entry.kind, Kind::Threads) && self.is_thread();
        let dots = [(&b"."[..], self.ino), (&b".."[..], up)];
        let mut index = 0;
        let mut emit = |name: &[u8], ino: u64, mode: u32, at: u64| {
            at < position || sink(DirectoryEntry { name, ino, file_type: mode & abi::S_IFMT, next: at + 1 })
        };
        for (name, ino) in dots {
            if !emit(name, ino, abi::S_IFDIR, index) {
                return Ok(());
            }
            index += 1;
        }
        for entry in self.entries() {
            let ino = self.child(entry.name.as_bytes(), entry.kind, self.id).ino;
            if !hidden(entry) && !emit(entry.name.as_bytes(), ino, entry.kind.mode(), index) {
                return Ok(());
            }
            index += 1;
        }
        for number in self.numbers()? {
            let name = format!("{number}");
            let (kind, id) = self.numbered(number);
            let ino = self.child(name.as_bytes(), kind, id).ino;
            if !emit(name.as_bytes(), ino, kind.mode(), NUMBERS + number) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match self.kind {
            Kind::Link(target) => target(&self.namespace).ok_or(Errno::ENOENT),
            Kind::Object(_) | Kind::Descriptor(_) => Ok(super::path::shown_path(&self.jump().ok_or(Errno::EINVAL)??)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn jump(&self) -> Option<Result<Location>> {
        let permitted = || {
            let subject = self.subject()?;
            subject.check_access()?;
            Ok(subject)
        };
        match self.kind {
            Kind::Object(find) => Some(permitted().and_then(|subject| find(&subject))),
            Kind::Descriptor(_) if let Err(error) = permitted() => Some(Err(error)),
            Kind::Descriptor(fd) => Some(self.descriptor(fd).map(|file| file.location())),
            _ => None,
        }
    }
}

impl ProcInode {
    fn is_directory_kind(&self) -> bool {
        self.kind.mode() & abi::S_IFMT == abi::S_IFDIR
    }

    fn is_thread(&self) -> bool {
        matches!(self.kind, Kind::Process { is_thread: true })
    }

    fn descriptor(&self, fd: u64) -> Result<Arc<File>> {
        self.subject()?.task()?.files.share().ok_or(Errno::ENOENT)?.get_any(fd).map_err(|_| Errno::ENOENT)
    }
}

/// The operations of an open text that can be written.
struct Changeable<F, C> {
    read: SeqFile<F>,
    change: C,
}

impl<F, C> FileOps for Changeable<F, C>
where
    F: Fn() -> Result<Vec<u8>> + Send + Sync,
    C: Fn(&[u8]) -> Result<()> + Send + Sync,
{
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, file: &File, to: &mut crate::vfs::buffer::Destination, position: &mut u64) -> Result<usize> {
        self.read.read(file, to, position)
    }

    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let bytes = from.take_all(4096)?;
        (self.change)(bytes.trim_ascii_end())?;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_name() {
        assert_eq!([b"0".as_slice(), b"1", b"4194304"].map(parse_number), [Some(0), Some(1), Some(4_194_304)]);
        for name in [b"".as_slice(), b"01", b"+1", b"-1", b" 1", b"1 ", b"self", b"2147483648", b"99999999999999999999"]
        {
            assert_eq!(parse_number(name), None, "{name:?}");
        }
    }
}
