//! Inodes of what has no name: the objects behind descriptors that calls make.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::{Inode, Metadata};

/// The device number of these inodes' file system.
const DEVICE: u64 = crate::vfs::inode::device_number(0, 13);

/// Such an inode.
pub struct AnonymousInode {
    metadata: Metadata,
    label: Vec<u8>,
}

impl AnonymousInode {
    /// An inode with these type and permission bits, which `/proc` shows as `label`.
    pub fn new(mode: u32, ino: u64, label: Vec<u8>) -> Arc<Self> {
        Arc::new(AnonymousInode { metadata: Metadata::new(DEVICE, ino, mode), label })
    }
}

impl Inode for AnonymousInode {
    fn metadata(&self) -> Metadata {
        self.metadata
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<File>> {
        Err(Errno::ENXIO)
    }

    fn label(&self) -> Option<Vec<u8>> {
        Some(self.label.clone())
    }

    fn file_system(&self) -> u32 {
        abi::ANON_INODE_FS_MAGIC
    }
}

/// An open file on an inode of its own, of the kind that Linux calls `anon_inode:[kind]`.
pub fn anonymous_file(kind: &str, ops: Arc<dyn FileOps>, flags: u32) -> Arc<File> {
    let label = alloc::format!("anon_inode:[{kind}]").into_bytes();
    // Linux has one inode for all of them, with no type bits.
    File::new(AnonymousInode::new(0o600, 1, label), ops, flags)
}
