//! The first mounts, and the root directory of all.

use alloc::sync::Arc;

use spin::Once;

use crate::vfs::mount::{Location, MountNamespace};

static MOUNTS: Once<Arc<MountNamespace>> = Once::new();

/// Sets them. Once, at boot.
pub(super) fn set(mounts: Arc<MountNamespace>) -> &'static Arc<MountNamespace> {
    MOUNTS.call_once(|| mounts)
}

/// The mounts of the first program.
pub fn mounts() -> &'static Arc<MountNamespace> {
    MOUNTS.get().expect("the file system is set up first")
}

/// The first root directory.
pub fn root() -> Location {
    mounts().root()
}
