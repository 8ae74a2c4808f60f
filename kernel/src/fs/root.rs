//! The root directory of all.

use alloc::sync::Arc;

use spin::Once;

use crate::fs::ramfs::RamInode;
use crate::vfs::inode::Inode;

static ROOT: Once<Arc<RamInode>> = Once::new();

/// Sets it. Once, at boot.
pub(super) fn set(directory: Arc<RamInode>) -> &'static Arc<RamInode> {
    ROOT.call_once(|| directory)
}

/// The root directory.
pub fn root() -> Arc<dyn Inode> {
    ROOT.get().expect("the file system is set up first").clone()
}
