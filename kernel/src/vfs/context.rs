//! What a task's paths start from.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::vfs::inode::Inode;

/// Root directory, working directory and umask of a task, shared by threads (`CLONE_FS`).
pub struct FsContext {
    inner: SpinLock<Places>,
}

#[derive(Clone)]
struct Places {
    root: Arc<dyn Inode>,
    cwd: Arc<dyn Inode>,
    umask: u32,
}

impl FsContext {
    /// The context of the first program: everything at `root`, umask 022.
    pub fn new(root: Arc<dyn Inode>) -> Self {
        FsContext { inner: SpinLock::new(Places { cwd: root.clone(), root, umask: 0o022 }) }
    }

    /// A copy, for `fork`.
    pub fn duplicate(&self) -> Self {
        let places = self.inner.lock().clone();
        FsContext { inner: SpinLock::new(places) }
    }

    /// The root directory.
    pub fn root(&self) -> Arc<dyn Inode> {
        self.inner.lock().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Arc<dyn Inode> {
        self.inner.lock().cwd.clone()
    }

    /// Permission bits that new files do not get.
    pub fn umask(&self) -> u32 {
        self.inner.lock().umask
    }

    /// Sets the umask and returns the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        core::mem::replace(&mut self.inner.lock().umask, umask & 0o777)
    }

    /// Sets the working directory.
    pub fn set_cwd(&self, directory: Arc<dyn Inode>) -> Result<()> {
        if !directory.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let _old = core::mem::replace(&mut self.inner.lock().cwd, directory);
        Ok(())
    }

    /// Sets the root directory.
    pub fn set_root(&self, directory: Arc<dyn Inode>) -> Result<()> {
        if !directory.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let _old = core::mem::replace(&mut self.inner.lock().root, directory);
        Ok(())
    }
}
