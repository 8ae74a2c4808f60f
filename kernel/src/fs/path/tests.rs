use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::ramfs::RamInode;
use crate::vfs::inode::Inode;
use crate::vfs::mount::{Mount, MountFlags, MountNamespace};

/// A small tree:
/// `/dir/file`, `/dir/sub/deep`, links to a file, a directory, themselves, nowhere, upwards and absolutely.
fn tree() -> Location {
    let root = RamInode::new_root(crate::fs::ramfs::DEVICE);
    let dir = root.create(b"dir", abi::S_IFDIR | 0o755, 0).expect("made");
    dir.create(b"file", abi::S_IFREG | 0o644, 0).expect("made");
    let sub = dir.create(b"sub", abi::S_IFDIR | 0o755, 0).expect("made");
    sub.create(b"deep", abi::S_IFREG | 0o644, 0).expect("made");
    for (name, target) in [
        ("to_file", "dir/file"),
        ("to_dir", "dir"),
        ("loop", "loop"),
        ("nowhere", "missing"),
        ("slashed", "dir/file/"),
        ("absolute", "/dir/sub"),
    ] {
        root.symlink(name.as_bytes(), target.as_bytes()).expect("made");
    }
    sub.symlink(b"up", b"../../dir").expect("made");
    mounted(root)
}

fn mounted(root: alloc::sync::Arc<dyn Inode>) -> Location {
    Mount::new(root, "tmpfs", b"tmpfs", MountFlags::DEFAULT).location()
}

fn context(root: &Location) -> FsContext {
    FsContext::new(MountNamespace::new(root.mount.clone().expect("mounted"), None))
}

fn walk(root: &Location) -> Walk {
    Walk::new(&context(root), root.clone())
}

/// The path of what a path names.
fn named(root: &Location, path: &str) -> Result<String> {
    let inode = walk(root).object(path.as_bytes(), true)?;
    Ok(String::from_utf8(inode.path_from(root).expect("it is in the tree")).expect("ASCII"))
}

#[test]
fn dots_and_slashes_lead_where_path_resolution_7_says() {
    let root = tree();
    for (path, expected) in [
        ("/", "/"),
        ("///", "/"),
        (".", "/"),
        ("/..", "/"),
        ("dir/./file", "/dir/file"),
        ("dir//sub///deep", "/dir/sub/deep"),
        ("dir/sub/..", "/dir"),
        ("dir/sub/../../dir/file", "/dir/file"),
        ("dir/sub/", "/dir/sub"),
        ("dir/sub/up/file", "/dir/file"),
        ("to_dir/../to_dir/sub", "/dir/sub"),
        ("absolute/deep", "/dir/sub/deep"),
    ] {
        assert_eq!(named(&root, path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn what_cannot_be_reached_has_the_error_of_the_manual() {
    let root = tree();
    for (path, expected) in [
        ("", Errno::ENOENT),
        ("missing", Errno::ENOENT),
        ("missing/x", Errno::ENOENT),
        ("dir/file/x", Errno::ENOTDIR),
        ("dir/file/", Errno::ENOTDIR),
        ("dir/file/.", Errno::ENOTDIR),
        ("to_file/", Errno::ENOTDIR),
        ("slashed", Errno::ENOTDIR),
        ("nowhere", Errno::ENOENT),
        ("loop", Errno::ELOOP),
        ("loop/x", Errno::ELOOP),
    ] {
        assert_eq!(named(&root, path), Err(expected), "{path}");
    }
}

#[test]
fn a_name_has_255_bytes_at_most() {
    let root = tree();
    assert_eq!(named(&root, &"x".repeat(255)), Err(Errno::ENOENT));
    assert_eq!(named(&root, &"x".repeat(256)), Err(Errno::ENAMETOOLONG));
}

#[test]
fn the_last_link_is_followed_if_asked_or_if_a_slash_follows_it() {
    let root = tree();
    let is_link = |path: &[u8]| walk(&root).object(path, false).map(|inode| inode.is_symlink());
    assert_eq!(is_link(b"to_dir"), Ok(true));
    assert_eq!(is_link(b"to_dir/"), Ok(false));
    assert_eq!(is_link(b"to_dir/sub/up"), Ok(true), "those before it always");
    assert_eq!(is_link(b"loop"), Ok(true));
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let root = RamInode::new_root(crate::fs::ramfs::DEVICE);
    root.create(b"0", abi::S_IFREG | 0o644, 0).expect("made");
    for n in 1..=41 {
        root.symlink(n.to_string().as_bytes(), (n - 1).to_string().as_bytes()).expect("made");
    }
    let root = mounted(root);
    // path_resolution(7): the limit on the total number of links is 40.
    assert_eq!(named(&root, "40").as_deref(), Ok("/0"));
    assert_eq!(named(&root, "41"), Err(Errno::ELOOP));
}

#[test]
fn a_place_is_where_a_name_would_be_made() {
    let root = tree();
    let place = |path: &str| {
        walk(&root).place(path.as_bytes()).map(|walked| {
            let directory = String::from_utf8(walked.directory.path_from(&root).expect("in the tree")).expect("ASCII");
            (directory, walked.last, walked.trailing_slash)
        })
    };
    let name = |name: &str| Last::Name(name.into());
    assert_eq!(place("dir/new"), Ok(("/dir".into(), name("new"), false)));
    assert_eq!(place("dir/sub/../new/"), Ok(("/dir".into(), name("new"), true)));
    assert_eq!(place("loop"), Ok(("/".into(), name("loop"), false)), "the link itself");
    assert_eq!(place("dir/."), Ok(("/dir".into(), Last::Here, false)));
    assert_eq!(place("/").map(|(_, last, _)| last), Ok(Last::Root));
    assert_eq!(place("dir/sub/..").map(|(_, last, _)| last), Ok(Last::Up));
    assert_eq!(place("missing/new"), Err(Errno::ENOENT));
    assert_eq!(place("dir/file/new"), Err(Errno::ENOTDIR));
}

#[test]
fn a_file_that_is_to_be_made_may_be_missing_but_not_its_directory() {
    let root = tree();
    let found = |path: &str| walk(&root).object_or_place(path.as_bytes(), true).map(|walked| walked.inode.is_some());
    assert_eq!(found("dir/file"), Ok(true));
    assert_eq!(found("dir/new"), Ok(false));
    assert_eq!(found("nowhere"), Ok(false), "through the link");
    assert_eq!(found("missing/new"), Err(Errno::ENOENT));
}

#[test]
fn openat2_keeps_a_walk_where_it_is_told() {
    let root = tree();
    let dir = walk(&root).object(b"dir", true).expect("there");
    let context = context(&root);
    let go = |rules, in_root, path: &str| {
        let inode = Walk::restricted(&context, dir.clone(), rules, in_root).object(path.as_bytes(), true)?;
        Ok(String::from_utf8(inode.path_from(&root).expect("in the tree")).expect("ASCII"))
    };
    let beneath = Rules { beneath: true, ..Rules::default() };
    assert_eq!(go(beneath, false, "sub/deep").as_deref(), Ok("/dir/sub/deep"));
    assert_eq!(go(beneath, false, "sub/../file").as_deref(), Ok("/dir/file"));
    for path in ["..", "/dir/file", "sub/../../dir", "sub/up"] {
        assert_eq!(go(beneath, false, path), Err(Errno::EXDEV), "{path}");
    }
    // RESOLVE_IN_ROOT: as if it were chroot(2)'s.
    for (path, expected) in [("..", "/dir"), ("/file", "/dir/file"), ("../../sub", "/dir/sub")] {
        assert_eq!(go(Rules::default(), true, path).as_deref(), Ok(expected), "{path}");
    }
    let no_symlinks = Rules { no_symlinks: true, ..Rules::default() };
    assert_eq!(go(no_symlinks, false, "sub/up"), Err(Errno::ELOOP));
    assert_eq!(go(no_symlinks, false, "sub/deep").as_deref(), Ok("/dir/sub/deep"));
}

#[test]
fn a_root_directory_of_its_own_is_not_left() {
    let root = tree();
    let dir = walk(&root).object(b"dir", true).expect("there");
    let context = context(&root);
    assert_eq!(context.set_root(dir.clone()), Ok(()));
    let jailed = |path: &str| Walk::new(&context, dir.clone()).object(path.as_bytes(), true);
    for path in ["/..", "../..", "/sub/../.."] {
        assert!(jailed(path).is_ok_and(|inode| inode.is(&dir)), "{path}");
    }
    assert!(jailed("/file").is_ok());
    let file = walk(&root).object(b"dir/file", true).expect("there");
    assert_eq!(context.set_cwd(file.clone()), Err(Errno::ENOTDIR));
    assert_eq!(root.path_from(&dir), None, "it has no name in there");
    assert_eq!(file.path_from(&dir).as_deref(), Some(b"/file".as_slice()));
}

#[test]
fn a_child_has_places_of_its_own() {
    let root = tree();
    let (context, dir) = (context(&root), walk(&root).object(b"dir", true).expect("there"));
    let child = context.duplicate();
    assert_eq!(child.set_umask(0o7_077), 0o022);
    assert_eq!(child.set_cwd(dir.clone()), Ok(()));
    assert_eq!((child.umask(), context.umask()), (0o077, 0o022));
    assert!(context.cwd().is(&root) && child.cwd().is(&dir) && child.root().is(&root));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Without links a walk is what the words of the path say, taken one after the other.
    #[test]
    fn a_walk_follows_the_words(words in vec(prop_oneof![
        Just(""), Just("."), Just(".."), Just("dir"), Just("sub"), Just("file"), Just("deep")
    ], 0..10), absolute: bool) {
        let root = tree();
        let path = format!("{}{}", if absolute { "/" } else { "" }, words.join("/"));
        // The model: names from the root, and which of these there are.
        let kinds = [("", true), ("dir", true), ("dir/file", false), ("dir/sub", true), ("dir/sub/deep", false)];
        let kind = |names: &[&str]| kinds.iter().find(|(name, _)| *name == names.join("/")).map(|(_, kind)| *kind);
        let mut names: Vec<&str> = Vec::new();
        let mut expected = if path.is_empty() { Err(Errno::ENOENT) } else { Ok(()) };
        for word in &words {
            if expected.is_err() {
                break;
            }
            match (*word, kind(&names)) {
                (_, Some(false)) => expected = Err(Errno::ENOTDIR),
                ("" | ".", _) => {}
                ("..", _) => drop(names.pop()),
                (name, _) => {
                    names.push(name);
                    if kind(&names).is_none() {
                        expected = Err(Errno::ENOENT);
                    }
                }
            }
        }
        prop_assert_eq!(named(&root, &path), expected.map(|()| format!("/{}", names.join("/"))), "{:?}", path);
    }

    /// No path makes a walk go on for ever or panic.
    #[test]
    fn every_path_ends(words in vec(prop_oneof![
        Just("loop"), Just("to_dir"), Just("absolute"), Just("up"), Just("nowhere"), Just("slashed"),
        Just(".."), Just("sub"), Just("dir"), Just("")
    ], 0..60)) {
        let root = tree();
        let _ = walk(&root).object(words.join("/").as_bytes(), true);
        let _ = walk(&root).object_or_place(words.join("/").as_bytes(), false);
        let _ = walk(&root).place(words.join("/").as_bytes());
    }
}
