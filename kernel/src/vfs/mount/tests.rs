use linux_raw_sys::general as abi;

use super::*;
use crate::fs::ramfs::{DEVICE, RamInode};
use crate::vfs::inode::new_device;

/// A file system with the directories `a`, `a/b`, `c` and the file `f`.
fn file_system(device: u64) -> Arc<dyn Inode> {
    let root = RamInode::new_root(device);
    let a = root.create(b"a", abi::S_IFDIR | 0o755, 0).expect("made");
    a.create(b"b", abi::S_IFDIR | 0o755, 0).expect("made");
    root.create(b"c", abi::S_IFDIR | 0o755, 0).expect("made");
    root.create(b"f", abi::S_IFREG | 0o644, 0).expect("made");
    root
}

fn mount() -> Arc<Mount> {
    crate::host::memory();
    Mount::new(file_system(new_device()), "tmpfs", b"tmpfs", MountFlags::DEFAULT)
}

fn namespace() -> Arc<MountNamespace> {
    let root = Mount::new(file_system(DEVICE), "tmpfs", b"tmpfs", MountFlags::DEFAULT);
    MountNamespace::new(root, None)
}

/// What the names lead to, from the root of all.
fn at(namespace: &MountNamespace, path: &str) -> Location {
    path.split('/').filter(|name| !name.is_empty()).fold(namespace.root(), |at, name| match name {
        ".." => at.up(&namespace.root()).expect("it is below"),
        _ => at.with(at.lookup(name.as_bytes()).expect("there")).uncovered(),
    })
}

/// Mounts a new file system.
fn add(namespace: &MountNamespace, path: &str) -> Arc<Mount> {
    let new = mount();
    namespace.attach(alloc::vec![new.clone()], &at(namespace, path)).expect("attached");
    new
}

fn path(namespace: &MountNamespace, location: &Location) -> Option<String> {
    location.path_from(&namespace.root()).map(|path| String::from_utf8(path).expect("ASCII"))
}

fn owner() -> Owner {
    Some(Arc::new(()))
}

#[test]
fn a_mount_covers_what_was_there() {
    let namespace = namespace();
    let below = at(&namespace, "a/b");
    let new = add(&namespace, "a");
    assert!(at(&namespace, "a").is(&new.location()) && at(&namespace, "a").lookup(b"b").is_err());
    assert_eq!(path(&namespace, &at(&namespace, "a/a/b")).as_deref(), Some("/a/a/b"));
    // "..": from the new root to what is above its place, and from below to it.
    assert!(at(&namespace, "a/..").is(&namespace.root()));
    assert!(
        below.up(&namespace.root()).is_ok_and(|up| up.is(&new.location())),
        "as in Linux the mount is seen from below, too"
    );
    let second = add(&namespace, "a");
    assert!(at(&namespace, "a").is(&second.location()) && at(&namespace, "a/..").is(&namespace.root()));
    assert_eq!(namespace.detach(at(&namespace, "a"), false), Err(Errno::EBUSY), "`second` uses it");
    drop(second);
    assert_eq!(namespace.detach(at(&namespace, "a"), false), Ok(()));
    assert!(at(&namespace, "a").is(&new.location()));
}

#[test]
fn what_is_used_or_no_mount_is_not_unmounted() {
    let namespace = namespace();
    drop((add(&namespace, "a"), add(&namespace, "a/c")));
    assert_eq!(namespace.detach(at(&namespace, "a"), false), Err(Errno::EBUSY), "with another in it");
    let inside = at(&namespace, "a/c/f");
    assert_eq!(namespace.detach(at(&namespace, "a/c"), false), Err(Errno::EBUSY), "with a file that is open");
    assert_eq!(namespace.detach(at(&namespace, "a/a"), false), Err(Errno::EINVAL), "a directory");
    assert_eq!(namespace.detach(namespace.root(), true), Err(Errno::EINVAL), "the root of all");
    assert_eq!(namespace.detach(at(&namespace, "a"), true), Ok(()), "lazily");
    assert_eq!(namespace.mounts().len(), 1);
    assert_eq!(path(&namespace, &inside), None, "no name leads there");
    assert_eq!(
        namespace.detach(inside.up(&namespace.root()).expect("its root"), true),
        Err(Errno::EINVAL),
        "it is not mounted"
    );
    assert_eq!(path(&namespace, &at(&namespace, "a/b")).as_deref(), Some("/a/b"), "what was covered is seen again");
}

#[test]
fn a_bind_mount_shows_a_part_and_is_not_left_upwards() {
    let namespace = namespace();
    add(&namespace, "a/b");
    for (deep, shown) in [(false, "/c/b"), (true, "/c/b/a")] {
        let bound = namespace.bind(&at(&namespace, "a"), deep).expect("it is mounted");
        assert_eq!(bound.len(), 1 + usize::from(deep));
        namespace.attach(bound, &at(&namespace, "c")).expect("attached");
        let inside = at(&namespace, shown);
        assert_eq!(path(&namespace, &inside).as_deref(), Some(shown));
        assert!(at(&namespace, "c/..").is(&namespace.root()) && at(&namespace, "c/b/../..").is(&namespace.root()));
        namespace.detach(at(&namespace, "c"), true).expect("it is a mount");
    }
    let file = namespace.bind(&at(&namespace, "f"), false).expect("it is mounted");
    namespace.attach(file, &at(&namespace, "a/b/f")).expect("attached");
    assert_eq!(at(&namespace, "a/b/f").metadata().ino, at(&namespace, "f").metadata().ino);
}

#[test]
fn a_directory_that_was_moved_out_of_a_bind_mount_leads_nowhere() {
    let namespace = namespace();
    namespace
        .attach(namespace.bind(&at(&namespace, "a"), false).expect("mounted"), &at(&namespace, "c"))
        .expect("attached");
    let inside = at(&namespace, "c/b");
    let root = namespace.root();
    at(&namespace, "a").rename(b"b", &root.inode, b"moved", 0).expect("renamed");
    // A task whose root is the bind mount would otherwise climb to the root of the file system.
    assert_eq!(inside.up(&at(&namespace, "c")).err(), Some(Errno::ENOENT));
}

#[test]
fn a_copy_of_a_namespace_is_changed_alone() {
    let first = namespace();
    add(&first, "a");
    let (second, copies) = first.duplicate(None).expect("memory");
    assert_eq!((copies.len(), second.mounts().len()), (2, 2));
    assert_eq!(second.attach(alloc::vec![mount()], &at(&first, "c")), Err(Errno::EINVAL), "of another namespace");
    add(&second, "c");
    second.detach(at(&second, "a"), true).expect("it is a mount");
    assert_eq!((first.mounts().len(), second.mounts().len()), (2, 2));
    assert!(at(&first, "a").is_mount_root() && !at(&first, "c").is_mount_root());
    assert_eq!(second.detach(at(&first, "a"), true), Err(Errno::EINVAL));
}

#[test]
fn who_has_fewer_rights_sees_nothing_that_was_hidden_and_writes_nothing_that_was_protected() {
    let first = namespace();
    add(&first, "a").set_flags(MountFlags::READ_ONLY | MountFlags::NO_EXEC).expect("not locked");
    let (second, _) = first.duplicate(owner()).expect("memory");
    let mounted = at(&second, "a");
    let mount = mounted.mount.clone().expect("mounted");
    assert_eq!(second.detach(mounted.clone(), true), Err(Errno::EINVAL));
    assert_eq!(second.relocate(&mounted, &at(&second, "c")), Err(Errno::EINVAL));
    assert_eq!(second.bind(&second.root(), false).err(), Some(Errno::EINVAL), "it would show what is below");
    assert_eq!(mount.set_flags(MountFlags::READ_ONLY), Err(Errno::EPERM));
    assert_eq!(mount.set_flags(MountFlags::READ_ONLY | MountFlags::NO_EXEC | MountFlags::NO_SUID), Ok(()));
    // Nor by a copy, or a namespace of its own.
    let bound = second.bind(&mounted, false).expect("it hides nothing");
    assert_eq!(bound[0].set_flags(MountFlags::empty()), Err(Errno::EPERM));
    let (third, _) = second.duplicate(second.owner().clone()).expect("memory");
    assert_eq!(
        at(&third, "a").mount.as_ref().map(|mount| mount.set_flags(MountFlags::empty())),
        Some(Err(Errno::EPERM))
    );
    assert_eq!(third.detach(at(&third, "a"), true), Err(Errno::EINVAL));
    second.attach(bound, &at(&second, "c")).expect("attached");
    assert_eq!(second.detach(at(&second, "c"), true), Ok(()), "what it has mounted itself");
}

#[test]
fn a_new_root_takes_the_place_of_the_old_one() {
    let namespace = namespace();
    add(&namespace, "a");
    let (root, new) = (namespace.root(), at(&namespace, "a"));
    assert_eq!(
        namespace.pivot(&root, &at(&namespace, "c"), &at(&namespace, "c")),
        Err(Errno::EBUSY),
        "no mount of its own"
    );
    assert_eq!(namespace.pivot(&root, &at(&namespace, "a/a"), &at(&namespace, "a/a/b")), Err(Errno::EINVAL), "no root");
    assert_eq!(namespace.pivot(&root, &new, &at(&namespace, "c")), Err(Errno::EBUSY), "not below it");
    assert_eq!(namespace.pivot(&root, &new, &at(&namespace, "a/c")), Ok(()));
    assert!(namespace.root().is(&new) && at(&namespace, "c").is(&root));
    assert_eq!(
        path(&namespace, &at(&namespace, "c/a/b")).as_deref(),
        Some("/c/a/b"),
        "where it was mounted is seen again"
    );
    // As runtimes do it: the old root over the new one, and away.
    let (second, _) = namespace.duplicate(None).expect("memory");
    add(&second, "a");
    let (root, new) = (second.root(), at(&second, "a"));
    assert_eq!(second.pivot(&root, &new, &new), Ok(()));
    assert!(second.root().is(&new) && second.root().uncovered().is(&root));
    assert_eq!(second.detach(second.root().uncovered(), true), Ok(()));
    assert!(second.mounts().len() == 1 && second.root().uncovered().is(&new));
}

#[test]
fn a_mount_is_moved_with_what_is_in_it_but_not_into_itself() {
    let namespace = namespace();
    drop((add(&namespace, "a"), add(&namespace, "a/c")));
    let mount = at(&namespace, "a");
    assert_eq!(namespace.relocate(&mount, &at(&namespace, "a/c/a")), Err(Errno::ELOOP));
    assert_eq!(namespace.relocate(&at(&namespace, "a/a"), &at(&namespace, "c")), Err(Errno::EINVAL));
    assert_eq!(namespace.relocate(&mount, &at(&namespace, "c")), Ok(()));
    assert!(
        at(&namespace, "c").is(&mount) && at(&namespace, "c/c").is_mount_root() && !at(&namespace, "a").is_mount_root()
    );
}

#[test]
fn mounts_are_limited_and_need_a_place() {
    let namespace = namespace();
    let over = at(&namespace, "c");
    while namespace.mounts().len() < MAX_MOUNTS {
        namespace.attach(alloc::vec![mount()], &over.clone().uncovered()).expect("there is room");
    }
    assert_eq!(namespace.attach(alloc::vec![mount()], &over), Err(Errno::ENOSPC));
    assert_eq!(namespace.detach(at(&namespace, "c"), true), Ok(()));
    namespace.root().rmdir(b"a").expect_err("it has entries");
    let gone = at(&namespace, "a/b");
    at(&namespace, "a").rmdir(b"b").expect("removed");
    assert_eq!(namespace.attach(alloc::vec![mount()], &gone), Err(Errno::ENOENT));
    let pipe = Location { mount: None, inode: gone.inode };
    assert_eq!(namespace.attach(alloc::vec![mount()], &pipe), Err(Errno::EINVAL));
}

#[test]
fn flags_are_shown_as_in_proc_mounts() {
    assert_eq!(MountFlags::from_call(0).shown(), "rw,relatime");
    assert_eq!(MountFlags::from_call(abi::MS_NOATIME | abi::MS_NOSUID).shown(), "rw,nosuid,noatime");
    assert_eq!(MountFlags::from_call(abi::MS_STRICTATIME | abi::MS_RDONLY | abi::MS_REC).shown(), "ro");
}

#[test]
fn a_deep_file_system_goes_without_a_deep_stack() {
    let namespace = namespace();
    let mut deepest = add(&namespace, "a").location();
    for _ in 0..200_000 {
        let next = deepest.create(b"d", abi::S_IFDIR | 0o755, 0).expect("made");
        next.create(b"f", abi::S_IFREG | 0o644, 0).expect("made");
        deepest = deepest.with(next);
    }
    let inode = Arc::downgrade(&deepest.inode);
    assert_eq!(namespace.detach(at(&namespace, "a"), true), Ok(()));
    assert!(inode.upgrade().is_some_and(|inode| inode.lookup(b"f").is_ok()), "as long as somebody is in it");
    drop(deepest);
    assert!(inode.upgrade().is_none());
}
