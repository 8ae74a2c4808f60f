//! What a task's paths start from.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::vfs::mount::{Location, MountNamespace, Owner};

/// Root directory, working directory, umask and mounts of a task, shared by threads (`CLONE_FS`).
pub struct FsContext {
    inner: SpinLock<Places>,
}

#[derive(Clone)]
struct Places {
    mounts: Arc<MountNamespace>,
    root: Location,
    cwd: Location,
    umask: u32,
}

impl FsContext {
    /// The context of the first program: everything at the root of all, umask 022.
    pub fn new(mounts: Arc<MountNamespace>) -> Self {
        let root = mounts.root();
        FsContext { inner: SpinLock::new(Places { mounts, cwd: root.clone(), root, umask: 0o022 }) }
    }

    /// A copy, for `fork`.
    pub fn duplicate(&self) -> Self {
        let places = self.inner.lock().clone();
        FsContext { inner: SpinLock::new(places) }
    }

    /// A copy with mounts of its own (`CLONE_NEWNS`), at the same places of them. ENOMEM if there is no memory for them.
    pub fn with_own_mounts(&self, owner: Owner) -> Result<Self> {
        let mut places = self.inner.lock().clone();
        let (mounts, copies) = places.mounts.duplicate(owner)?;
        for location in [&mut places.root, &mut places.cwd] {
            let is_of = |mount: &Arc<_>| location.mount.as_ref().is_some_and(|of| Arc::ptr_eq(of, mount));
            if let Some((_, copy)) = copies.iter().find(|(old, _)| is_of(old)) {
                location.mount = Some(copy.clone());
            }
        }
        places.mounts = mounts;
        Ok(FsContext { inner: SpinLock::new(places) })
    }

    /// The mounts that it sees.
    pub fn mounts(&self) -> Arc<MountNamespace> {
        self.inner.lock().mounts.clone()
    }

    /// The root directory.
    pub fn root(&self) -> Location {
        self.inner.lock().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Location {
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
    pub fn set_cwd(&self, directory: Location) -> Result<()> {
        if !directory.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let _old = core::mem::replace(&mut self.inner.lock().cwd, directory);
        Ok(())
    }

    /// Sets the root directory.
    pub fn set_root(&self, directory: Location) -> Result<()> {
        if !directory.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let _old = core::mem::replace(&mut self.inner.lock().root, directory);
        Ok(())
    }

    /// What was at `old` is at `new`: `pivot_root` was there.
    pub fn follow(&self, old: &Location, new: &Location) {
        let _old = {
            let mut places = self.inner.lock();
            let mut follow = |at: fn(&mut Places) -> &mut Location| {
                let at = at(&mut places);
                at.is(old).then(|| core::mem::replace(at, new.clone()))
            };
            [follow(|places| &mut places.root), follow(|places| &mut places.cwd)]
        };
    }
}
