//! `/proc/PID/ns`: which namespaces a process is in. Two processes are in the same one if device and inode number are the same
//! (namespaces(7)).

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::Result;
use crate::fs::proc::entry::{Entry, Kind, Subject};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::{Inode, Metadata, device_number};
use crate::vfs::mount::Location;

/// The device number of the namespaces.
const DEVICE: u64 = device_number(0, 4);

/// What Linux numbers the first namespaces of each kind with (`include/linux/proc_ns.h`, 6.1), and from there on.
mod first {
    pub const IPC: u64 = 0xefff_ffff;
    pub const UTS: u64 = 0xefff_fffe;
    pub const USER: u64 = 0xefff_fffd;
    pub const PID: u64 = 0xefff_fffc;
    pub const CGROUP: u64 = 0xefff_fffb;
    pub const TIME: u64 = 0xefff_fffa;
    pub const MNT: u64 = 0xf000_0000;
    pub const NET: u64 = 0xf000_0001;
}

/// A namespace: its kind, and its number.
struct Namespace {
    kind: &'static str,
    ino: u64,
}

impl Inode for Namespace {
    fn metadata(&self) -> Metadata {
        Metadata::new(DEVICE, self.ino, abi::S_IFREG | 0o444)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        Ok(File::new(self, Arc::new(Handle), flags))
    }

    fn label(&self) -> Option<Vec<u8>> {
        Some(format!("{}:[{}]", self.kind, self.ino).into_bytes())
    }

    fn is_made_anew(&self) -> bool {
        true
    }

    fn file_system(&self) -> u32 {
        abi::NSFS_MAGIC
    }
}

/// The operations of an open namespace: none.
struct Handle;

impl FileOps for Handle {}

fn link(kind: &'static str, ino: u64) -> Result<Location> {
    Ok(Location { mount: None, inode: Arc::new(Namespace { kind, ino }) })
}

fn user(subject: &Subject) -> Result<Location> {
    let credentials = subject.process.credentials.lock().clone();
    link("user", credentials.namespace.map_or(first::USER, |namespace| namespace.ino))
}

fn pid(subject: &Subject) -> Result<Location> {
    link("pid", subject.process.pid_namespace.as_ref().map_or(first::PID, |namespace| namespace.ino))
}

fn pid_of_children(subject: &Subject) -> Result<Location> {
    let namespace = subject.task()?.pid_namespace_of_children.lock().clone();
    link("pid", namespace.map_or(first::PID, |namespace| namespace.ino))
}

fn mounts(subject: &Subject) -> Result<Location> {
    let context = subject.task()?.fs.share().ok_or(crate::errno::Errno::ENOENT)?;
    let is_first = Arc::ptr_eq(&context.mounts(), crate::fs::root::mounts());
    link("mnt", if is_first { first::MNT } else { context.mounts().ino })
}

/// The links. There is one namespace of those kinds that nothing here asks the process for.
pub static ENTRIES: &[Entry] = &[
    Entry { name: "cgroup", kind: Kind::Object(|_| link("cgroup", first::CGROUP)) },
    Entry { name: "ipc", kind: Kind::Object(|_| link("ipc", first::IPC)) },
    Entry { name: "mnt", kind: Kind::Object(mounts) },
    Entry { name: "net", kind: Kind::Object(|_| link("net", first::NET)) },
    Entry { name: "pid", kind: Kind::Object(pid) },
    Entry { name: "pid_for_children", kind: Kind::Object(pid_of_children) },
    Entry { name: "time", kind: Kind::Object(|_| link("time", first::TIME)) },
    Entry { name: "time_for_children", kind: Kind::Object(|_| link("time", first::TIME)) },
    Entry { name: "user", kind: Kind::Object(user) },
    Entry { name: "uts", kind: Kind::Object(|_| link("uts", first::UTS)) },
];
