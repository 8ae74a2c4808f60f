//! Mounts: what is put over a directory or a file, and the trees that they form.
//!
//! A name leads to a [`Location`]: an object, and the mount that it was reached by. Two mounts may show the same object (`mount --bind`);
//! which directory is above it, and whether it may be written to, is the mount's. The mounts of a [`MountNamespace`] form a tree. Nothing
//! propagates from one namespace to another: all mounts are private, as `mount_namespaces(7)` calls it.
//!
//! **Locks.** A namespace's → one mount's. Nothing is dropped with either.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use bitflags::bitflags;
use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::{frames, new_ino};
use crate::vfs::inode::{Inode, is_same_object, joined};

/// So many mounts may a namespace have.
pub const MAX_MOUNTS: usize = 1024;
/// Kernel memory that a mount takes, at most, its places in lists included.
const COST: u64 = 512;

bitflags! {
    /// What a mount forbids, or does otherwise (`MS_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MountFlags: u32 {
        /// Nothing is written.
        const READ_ONLY = abi::MS_RDONLY;
        /// Set-user-ID bits do nothing.
        const NO_SUID = abi::MS_NOSUID;
        /// Device nodes are not opened.
        const NO_DEVICES = abi::MS_NODEV;
        /// No program is run.
        const NO_EXEC = abi::MS_NOEXEC;
        /// Kept for those who ask.
        const NO_ATIME = abi::MS_NOATIME;
        /// Kept for those who ask.
        const NO_DIRECTORY_ATIME = abi::MS_NODIRATIME;
        /// Kept for those who ask.
        const RELATIVE_ATIME = abi::MS_RELATIME;
    }
}

impl MountFlags {
    /// What protects from programs.
    const RESTRICTIONS: MountFlags =
        MountFlags::READ_ONLY.union(MountFlags::NO_SUID).union(MountFlags::NO_DEVICES).union(MountFlags::NO_EXEC);
    /// What there is if nothing is said.
    pub const DEFAULT: MountFlags = MountFlags::RELATIVE_ATIME;

    /// Those of mount(2): times are updated as by `relatime` unless the caller wants none, or each.
    pub fn from_call(flags: u32) -> MountFlags {
        let mut kept = MountFlags::from_bits_truncate(flags) - MountFlags::RELATIVE_ATIME;
        if flags & (abi::MS_NOATIME | abi::MS_STRICTATIME) == 0 {
            kept |= MountFlags::RELATIVE_ATIME;
        }
        kept
    }

    /// As /proc/PID/mounts lists them.
    pub fn shown(self) -> alloc::string::String {
        const NAMES: [(MountFlags, &str); 6] = [
            (MountFlags::NO_SUID, ",nosuid"),
            (MountFlags::NO_DEVICES, ",nodev"),
            (MountFlags::NO_EXEC, ",noexec"),
            (MountFlags::NO_ATIME, ",noatime"),
            (MountFlags::NO_DIRECTORY_ATIME, ",nodiratime"),
            (MountFlags::RELATIVE_ATIME, ",relatime"),
        ];
        let mut shown = alloc::string::String::from(if self.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" });
        NAMES.iter().filter(|(flag, _)| self.contains(*flag)).for_each(|(_, name)| shown.push_str(name));
        shown
    }
}

/// One mount: an object that stands in the place of another.
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// What is seen at its place: the root of a file system, or for a bind mount what was bound.
    pub root: Arc<dyn Inode>,
    /// The kind of file system.
    pub kind: &'static str,
    /// What was mounted, in the words of who did.
    pub source: Arc<[u8]>,
    flags: AtomicU32,
    /// Those of its flags that stay: the mount came from a namespace of somebody with more rights.
    locked_flags: MountFlags,
    /// It came with what it is mounted in, and does not leave it: what is below was hidden from those who see it.
    is_locked: bool,
    links: SpinLock<Links>,
}

#[derive(Default)]
struct Links {
    /// Where it is: over which object, in which mount. None for the first of a namespace, and for what is mounted no longer.
    place: Option<(Weak<Mount>, Arc<dyn Inode>)>,
    /// What is mounted in it: over which objects. The newest last.
    children: Vec<(Arc<dyn Inode>, Weak<Mount>)>,
}

impl Mount {
    /// A mount without a place.
    pub fn new(root: Arc<dyn Inode>, kind: &'static str, source: &[u8], flags: MountFlags) -> Arc<Mount> {
        Arc::new(Mount {
            id: Mount::new_id(),
            root,
            kind,
            source: source.into(),
            flags: AtomicU32::new(flags.bits()),
            locked_flags: MountFlags::empty(),
            is_locked: false,
            links: SpinLock::default(),
        })
    }

    fn new_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Relaxed)
    }

    /// Another mount of the same file system, which shows `root`.
    fn copy(&self, root: Arc<dyn Inode>, is_locked: bool, lock_flags: bool) -> Arc<Mount> {
        let flags = self.flags();
        let locked_flags = if lock_flags { flags & MountFlags::RESTRICTIONS } else { self.locked_flags };
        Arc::new(Mount {
            id: Mount::new_id(),
            root,
            kind: self.kind,
            source: self.source.clone(),
            flags: AtomicU32::new(flags.bits()),
            locked_flags,
            is_locked,
            links: SpinLock::default(),
        })
    }

    /// What it forbids.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Relaxed))
    }

    /// Forbids this from now on. EPERM if that would permit what somebody with more rights has forbidden.
    pub fn set_flags(&self, flags: MountFlags) -> Result<()> {
        if !flags.contains(self.locked_flags) {
            return Err(Errno::EPERM);
        }
        self.flags.store(flags.bits(), Relaxed);
        Ok(())
    }

    /// Its root.
    pub fn location(self: &Arc<Self>) -> Location {
        Location { mount: Some(self.clone()), inode: self.root.clone() }
    }

    /// What it covers; None for the first of a namespace, and for what is mounted no longer.
    pub fn place(&self) -> Option<Location> {
        let links = self.links.lock();
        let (mount, inode) = links.place.as_ref()?;
        Some(Location { mount: Some(mount.upgrade()?), inode: inode.clone() })
    }

    /// What was last mounted over an object of it.
    fn over(&self, inode: &Arc<dyn Inode>) -> Option<Arc<Mount>> {
        let links = self.links.lock();
        let found = links.children.iter().rev().find(|(place, _)| is_same_object(place, inode));
        found.and_then(|(_, mount)| mount.upgrade())
    }

    /// Takes its place, with nothing left at its old one.
    fn put(self: &Arc<Self>, at: Option<Location>) -> impl Sized + use<> {
        let old = self.take_away();
        if let Some(Location { mount: Some(mount), inode }) = at {
            self.links.lock().place = Some((Arc::downgrade(&mount), inode.clone()));
            mount.links.lock().children.push((inode, Arc::downgrade(self)));
        }
        old
    }

    /// Leaves its place. What is returned is to be dropped without locks.
    fn take_away(&self) -> impl Sized + use<> {
        let place = self.links.lock().place.take();
        let parent = place.as_ref().and_then(|(mount, _)| mount.upgrade());
        let entry = parent.as_ref().and_then(|parent| {
            let children = &mut parent.links.lock().children;
            let at = children.iter().position(|(_, mount)| core::ptr::eq(mount.as_ptr(), self))?;
            Some(children.remove(at))
        });
        (place, parent, entry)
    }
}

/// An object, and the mount that it was reached by: None for what no name leads to (a pipe).
#[derive(Clone)]
pub struct Location {
    /// The mount.
    pub mount: Option<Arc<Mount>>,
    /// The object.
    pub inode: Arc<dyn Inode>,
}

impl Deref for Location {
    type Target = Arc<dyn Inode>;

    fn deref(&self) -> &Arc<dyn Inode> {
        &self.inode
    }
}

impl Location {
    /// An object of the same mount.
    pub fn with(&self, inode: Arc<dyn Inode>) -> Location {
        Location { mount: self.mount.clone(), inode }
    }

    /// Whether both are the same object by the same mount.
    pub fn is(&self, other: &Location) -> bool {
        self.is_by_mount_of(other) && is_same_object(&self.inode, &other.inode)
    }

    /// Whether both were reached by the same mount.
    pub fn is_by_mount_of(&self, other: &Location) -> bool {
        self.mount.as_ref().map(Arc::as_ptr) == other.mount.as_ref().map(Arc::as_ptr)
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| is_same_object(&mount.root, &self.inode))
    }

    /// Whether something is mounted over it.
    pub fn is_covered(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.over(&self.inode).is_some())
    }

    /// What is seen there: the root of what was last mounted over it, or itself.
    pub fn uncovered(mut self) -> Location {
        while let Some(mount) = self.mount.as_ref().and_then(|mount| mount.over(&self.inode)) {
            self = mount.location();
        }
        self
    }

    /// The directory above, but never above `root`. ENOENT if it is no longer below what its mount shows.
    pub fn up(&self, root: &Location) -> Result<Location> {
        let mut at = self.clone();
        while !at.is(root) {
            match at.mount.as_ref().filter(|_| at.is_mount_root()) {
                Some(mount) => match mount.place() {
                    Some(place) => at = place,
                    None => break,
                },
                None => {
                    let Some((parent, _)) = at.inode.parent() else { break };
                    let shows_part = at.mount.as_ref().filter(|mount| mount.root.parent().is_some());
                    if shows_part.is_some_and(|mount| !is_within(&parent, &mount.root)) {
                        return Err(Errno::ENOENT);
                    }
                    return Ok(at.with(parent).uncovered());
                }
            }
        }
        Ok(at.uncovered())
    }

    /// Its path as seen from `root`. None if it has no name below it.
    pub fn path_from(&self, root: &Location) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = self.clone();
        while !at.is(root) {
            if at.is_mount_root() {
                at = at.mount.as_ref().and_then(|mount| mount.place())?;
            } else {
                let (parent, name) = at.inode.parent()?;
                names.push(name);
                at = at.with(parent);
            }
        }
        Some(joined(&names))
    }

    /// EROFS unless its mount may be written to.
    pub fn check_writable(&self) -> Result<()> {
        if self.has(MountFlags::READ_ONLY) { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Whether its mount forbids this.
    pub fn has(&self, flag: MountFlags) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.flags().contains(flag))
    }
}

/// Whether an object is a directory, or below it, without a look at mounts.
fn is_within(inode: &Arc<dyn Inode>, directory: &Arc<dyn Inode>) -> bool {
    let mut at = inode.clone();
    while !is_same_object(&at, directory) {
        match at.parent() {
            Some((parent, _)) => at = parent,
            None => return false,
        }
    }
    true
}

/// The user namespace whose administrators may change a mount namespace; a layer above knows its type. None is the first.
pub type Owner = Option<Arc<dyn Any + Send + Sync>>;

/// A tree of mounts, of the tasks that see it.
pub struct MountNamespace {
    /// Its number in `/proc/PID/ns`.
    pub ino: u64,
    owner: Owner,
    tree: SpinLock<Tree>,
}

struct Tree {
    root: Arc<Mount>,
    /// All, the root too, the oldest first. Each is here, or nobody reaches it by a name.
    mounts: Vec<Arc<Mount>>,
}

/// Each mount of a namespace, and its copy.
pub type Copies = Vec<(Arc<Mount>, Arc<Mount>)>;

impl Tree {
    /// The mount of a location. EINVAL if it is not of this tree.
    fn mount_of<'a>(&self, location: &'a Location) -> Result<&'a Arc<Mount>> {
        let mount = location.mount.as_ref().ok_or(Errno::EINVAL)?;
        self.mounts.iter().any(|other| Arc::ptr_eq(other, mount)).then_some(mount).ok_or(Errno::EINVAL)
    }

    /// The mount of which this is the root. EINVAL if it cannot leave its place.
    fn movable<'a>(&self, root: &'a Location) -> Result<&'a Arc<Mount>> {
        let mount = self.mount_of(root)?;
        let is_placed = mount.links.lock().place.is_some();
        if root.is_mount_root() && is_placed && !mount.is_locked { Ok(mount) } else { Err(Errno::EINVAL) }
    }

    /// A mount and all that are mounted in it, each after what it is mounted in.
    fn below(top: &Arc<Mount>) -> Vec<Arc<Mount>> {
        let mut found = alloc::vec![top.clone()];
        let mut at = 0;
        while let Some(mount) = found.get(at).cloned() {
            found.extend(mount.links.lock().children.iter().filter_map(|(_, child)| child.upgrade()));
            at += 1;
        }
        found
    }

    /// Copies of a mount, showing `root`, and with `deep` of those that are seen below it. They keep what they forbid if they are for
    /// somebody with other rights.
    fn copies(top: &Arc<Mount>, root: &Arc<dyn Inode>, deep: bool, for_others: bool) -> Copies {
        let mut copies: Copies = alloc::vec![(top.clone(), top.copy(root.clone(), false, for_others))];
        for mount in Tree::below(top).into_iter().skip(1).filter(|_| deep) {
            let Some(place) = mount.place() else { continue };
            let parent =
                copies.iter().find(|(old, _)| place.mount.as_ref().is_some_and(|mount| Arc::ptr_eq(mount, old)));
            let is_seen = place.mount.as_ref().is_some_and(|of| !Arc::ptr_eq(of, top)) || is_within(&place.inode, root);
            let Some((_, parent)) = parent.filter(|_| is_seen) else { continue };
            let copy = mount.copy(mount.root.clone(), mount.is_locked || for_others, for_others);
            // A copy had no place before: there is nothing to drop.
            let _ = copy.put(Some(Location { mount: Some(parent.clone()), inode: place.inode }));
            copies.push((mount, copy));
        }
        copies
    }
}

impl MountNamespace {
    /// The first: a single mount.
    pub fn new(root: Arc<Mount>, owner: Owner) -> Arc<MountNamespace> {
        let mounts = alloc::vec![root.clone()];
        Arc::new(MountNamespace { ino: new_ino(), owner, tree: SpinLock::new(Tree { root, mounts }) })
    }

    /// One with the same mounts, for `CLONE_NEWNS`, and which is whose copy. ENOMEM if there is no memory for them.
    pub fn duplicate(&self, owner: Owner) -> Result<(Arc<MountNamespace>, Copies)> {
        self.require_memory()?;
        let key = |owner: &Owner| owner.as_ref().map(|owner| Arc::as_ptr(owner).addr());
        let is_same_owner = key(&owner) == key(&self.owner);
        let copies = {
            let tree = self.tree.lock();
            Tree::copies(&tree.root, &tree.root.root, true, !is_same_owner)
        };
        let mounts: Vec<_> = copies.iter().map(|(_, copy)| copy.clone()).collect();
        let tree = Tree { root: mounts[0].clone(), mounts };
        Ok((Arc::new(MountNamespace { ino: new_ino(), owner, tree: SpinLock::new(tree) }), copies))
    }

    /// ENOMEM unless there is memory for as many mounts as it has.
    fn require_memory(&self) -> Result<()> {
        let count = self.tree.lock().mounts.len();
        frames::require(count as u64 * COST)
    }

    /// Whose administrators may change it.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The root of all.
    pub fn root(&self) -> Location {
        self.tree.lock().root.location()
    }

    /// All mounts, the oldest first.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.tree.lock().mounts.clone()
    }

    /// Mounts over an object: a mount, and after it what is mounted in it. ENOENT if the object has no name any more, ENOSPC if there are
    /// too many.
    pub fn attach(&self, mounts: Vec<Arc<Mount>>, over: &Location) -> Result<()> {
        frames::require_spare()?;
        let mut tree = self.tree.lock();
        tree.mount_of(over)?;
        if over.inode.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        if tree.mounts.len() + mounts.len() > MAX_MOUNTS {
            return Err(Errno::ENOSPC);
        }
        let old = mounts[0].put(Some(over.clone()));
        tree.mounts.extend(mounts);
        drop(tree);
        drop(old);
        Ok(())
    }

    /// What is to be attached elsewhere to show `what` there, too; with `deep` with all that is mounted below it.
    pub fn bind(&self, what: &Location, deep: bool) -> Result<Vec<Arc<Mount>>> {
        self.require_memory()?;
        let tree = self.tree.lock();
        let mount = tree.mount_of(what)?;
        // Without what is mounted in it, what that hides would be seen.
        let hides = |mount: &Arc<Mount>| mount.is_locked && mount.location().path_from(what).is_some();
        if !deep && Tree::below(mount).iter().skip(1).any(hides) {
            return Err(Errno::EINVAL);
        }
        Ok(Tree::copies(mount, &what.inode, deep, false).into_iter().map(|(_, copy)| copy).collect())
    }

    /// Takes the mount of which this is the root away, and all that is mounted in it. Unless that is done `lazily`, EBUSY if there is
    /// something, or if somebody else uses it. EINVAL for other locations, for the root of all, and for
    /// what is locked.
    pub fn detach(&self, root: Location, lazily: bool) -> Result<()> {
        let mut tree = self.tree.lock();
        let mount = tree.movable(&root)?;
        // The tree's own reference, and the caller's.
        let is_used = Arc::strong_count(mount) > 2;
        let all = Tree::below(mount);
        if !lazily && (all.len() > 1 || is_used) {
            return Err(Errno::EBUSY);
        }
        let old: Vec<_> = all.iter().map(|mount| mount.take_away()).collect();
        let is_gone = |mount: &Arc<Mount>| all.iter().any(|other| Arc::ptr_eq(mount, other));
        // `all` keeps them until there is no lock.
        tree.mounts.retain(|mount| !is_gone(mount));
        drop(tree);
        drop((old, all));
        Ok(())
    }

    /// Moves the mount of which `root` is the root to another place. ELOOP if that is within it.
    pub fn relocate(&self, root: &Location, to: &Location) -> Result<()> {
        let tree = self.tree.lock();
        let mount = tree.movable(root)?;
        tree.mount_of(to)?;
        if to.path_from(root).is_some() {
            return Err(Errno::ELOOP);
        }
        let old = mount.put(Some(to.clone()));
        drop(tree);
        drop(old);
        Ok(())
    }

    /// `pivot_root`: the mount of `new` takes the place of that of `root`, which goes to `put_old`.
    pub fn pivot(&self, root: &Location, new: &Location, put_old: &Location) -> Result<()> {
        let mut tree = self.tree.lock();
        let [root_mount, new_mount] = [tree.mount_of(root)?, tree.mount_of(new)?];
        let old_mount = tree.mount_of(put_old)?;
        if new.inode.is_unlinked() || put_old.inode.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        if Arc::ptr_eq(new_mount, root_mount) || Arc::ptr_eq(old_mount, root_mount) {
            return Err(Errno::EBUSY);
        }
        let are_roots = root.is_mount_root() && new.is_mount_root();
        if !are_roots || new_mount.is_locked || put_old.path_from(new).is_none() || new.path_from(root).is_none() {
            return Err(Errno::EINVAL);
        }
        let place = root_mount.place();
        if place.is_none() {
            tree.root = new_mount.clone();
        }
        let old = (new_mount.put(None), root_mount.put(None));
        let old = (old, new_mount.put(place), root_mount.put(Some(put_old.clone())));
        drop(tree);
        drop(old);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
