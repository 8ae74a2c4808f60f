use std::collections::BTreeMap as Map;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::host;
use crate::vfs::buffer::Destination;

const FILE: u32 = abi::S_IFREG | 0o644;
const DIRECTORY: u32 = abi::S_IFDIR | 0o755;

fn root() -> Arc<dyn Inode> {
    RamInode::new_root(crate::fs::ramfs::DEVICE)
}

fn names(directory: &Arc<dyn Inode>) -> Vec<String> {
    let mut names = Vec::new();
    directory
        .readdir(0, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        })
        .expect("a directory");
    names
}

#[test]
fn an_entry_is_made_found_and_gone() {
    let root = root();
    let file = root.create(b"file", FILE, 0).expect("made");
    assert!(root.lookup(b"file").is_ok_and(|found| crate::vfs::inode::same(&found, &file)));
    assert_eq!(root.create(b"file", FILE, 0).err(), Some(Errno::EEXIST));
    assert_eq!((root.unlink(b"file"), root.unlink(b"file")), (Ok(()), Err(Errno::ENOENT)));
    assert!(file.is_unlinked() && file.metadata().links == 0);
    assert_eq!(root.lookup(b"file").err(), Some(Errno::ENOENT));
    assert_eq!(file.lookup(b"x").err(), Some(Errno::ENOTDIR));
}

#[test]
fn links_are_counted_as_stat_2_counts_them() {
    let root = root();
    assert_eq!(root.metadata().links, 2);
    let dir = root.create(b"dir", DIRECTORY, 0).expect("made");
    assert_eq!((root.metadata().links, dir.metadata().links), (3, 2));
    let file = dir.create(b"file", FILE, 0).expect("made");
    assert_eq!(root.link(b"again", &file), Ok(()));
    assert_eq!(file.metadata().links, 2);
    assert_eq!(dir.unlink(b"file"), Ok(()));
    assert_eq!((file.metadata().links, file.is_unlinked()), (1, false));
    assert_eq!(root.link(b"dir again", &dir), Err(Errno::EPERM));
    assert_eq!(root.rmdir(b"dir"), Ok(()));
    assert_eq!((root.metadata().links, dir.metadata().links), (2, 0));
}

#[test]
fn only_empty_directories_go_by_rmdir_and_only_others_by_unlink() {
    let root = root();
    let dir = root.create(b"dir", DIRECTORY, 0).expect("made");
    dir.create(b"file", FILE, 0).expect("made");
    assert_eq!((root.unlink(b"dir"), root.rmdir(b"dir")), (Err(Errno::EISDIR), Err(Errno::ENOTEMPTY)));
    assert_eq!((dir.rmdir(b"file"), dir.unlink(b"file")), (Err(Errno::ENOTDIR), Ok(())));
    assert_eq!(root.rmdir(b"dir"), Ok(()));
    assert_eq!(dir.create(b"file", FILE, 0).err(), Some(Errno::ENOENT), "nobody could find it");
}

#[test]
fn a_rename_replaces_only_what_rename_2_lets_it() {
    let root = root();
    for (name, mode) in [("file", FILE), ("other", FILE), ("dir", DIRECTORY), ("empty", DIRECTORY)] {
        root.create(name.as_bytes(), mode, 0).expect("made");
    }
    let dir = root.lookup(b"dir").expect("there");
    dir.create(b"inner", DIRECTORY, 0).expect("made");
    let rename = |from: &str, to: &str, flags| root.rename(from.as_bytes(), &root, to.as_bytes(), flags);
    assert_eq!(rename("missing", "x", 0), Err(Errno::ENOENT));
    assert_eq!(rename("file", "dir", 0), Err(Errno::EISDIR));
    assert_eq!(rename("empty", "file", 0), Err(Errno::ENOTDIR));
    assert_eq!(rename("empty", "dir", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(rename("file", "other", abi::RENAME_NOREPLACE), Err(Errno::EEXIST));
    assert_eq!(rename("file", "missing", abi::RENAME_EXCHANGE), Err(Errno::ENOENT));
    assert_eq!(root.rename(b"dir", &dir, b"itself", 0), Err(Errno::EINVAL));
    let inner = dir.lookup(b"inner").expect("there");
    assert_eq!(root.rename(b"dir", &inner, b"x", 0), Err(Errno::EINVAL));
    assert_eq!(dir.rename(b"inner", &root, b"dir", 0), Err(Errno::ENOTEMPTY));
    let replaced = root.lookup(b"other").expect("there");
    assert_eq!(rename("file", "other", 0), Ok(()));
    assert!(replaced.is_unlinked());
    assert_eq!(rename("dir", "empty", 0), Ok(()));
    assert_eq!(names(&root), [".", "..", "other", "empty"]);
}

#[test]
fn an_exchange_swaps_two_names() {
    let root = root();
    let dir = root.create(b"dir", DIRECTORY, 0).expect("made");
    let file = dir.create(b"file", FILE, 0).expect("made");
    let other = root.create(b"other", DIRECTORY, 0).expect("made");
    assert_eq!(dir.rename(b"file", &root, b"other", abi::RENAME_EXCHANGE), Ok(()));
    assert!(crate::vfs::inode::same(&root.lookup(b"other").expect("there"), &file));
    assert!(crate::vfs::inode::same(&dir.lookup(b"file").expect("there"), &other));
    assert!(other.parent().is_some_and(|(parent, name)| crate::vfs::inode::same(&parent, &dir) && name == b"file"));
    assert_eq!((root.metadata().links, dir.metadata().links), (3, 3));
    assert_eq!(root.rename(b"dir", &dir, b"file", abi::RENAME_EXCHANGE), Err(Errno::EINVAL));
}

#[test]
fn two_names_of_one_file_are_not_renamed() {
    let root = root();
    let file = root.create(b"a", FILE, 0).expect("made");
    assert_eq!(root.link(b"b", &file), Ok(()));
    assert_eq!(root.rename(b"a", &root, b"b", 0), Ok(()));
    // rename(2): "if oldpath and newpath are hard links to the same file, rename() does nothing".
    assert_eq!((names(&root).len(), file.metadata().links), (4, 2));
}

#[test]
fn a_listing_misses_nothing_that_was_there_while_entries_go() {
    let root = root();
    for n in 0..10 {
        root.create(format!("f{n}").as_bytes(), FILE, 0).expect("made");
    }
    let (mut position, mut seen) = (0, Vec::new());
    // One entry at a time, each removed when it is seen: `rm -r`.
    loop {
        let mut found = None;
        root.readdir(position, &mut |entry| {
            let first = found.is_none();
            if first {
                found = Some((entry.name.to_vec(), entry.next));
            }
            first
        })
        .expect("a directory");
        let Some((name, next)) = found else { break };
        position = next;
        if name.starts_with(b"f") {
            assert_eq!(root.unlink(&name), Ok(()));
            seen.push(name);
        }
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(names(&root), [".", ".."]);
}

#[test]
fn a_directory_that_inherits_its_group_hands_that_on() {
    let root = root();
    let dir = root.create(b"dir", DIRECTORY, 0).expect("made");
    let change = AttributeChange { permissions: Some(0o2755), gid: Some(77), ..AttributeChange::default() };
    assert_eq!(dir.set_attributes(&change), Ok(()));
    let (file, sub) = (dir.create(b"file", FILE, 0).expect("made"), dir.create(b"sub", DIRECTORY, 0).expect("made"));
    assert_eq!((file.metadata().gid, file.metadata().mode & 0o7000), (77, 0));
    assert_eq!((sub.metadata().gid, sub.metadata().mode & 0o7000), (77, 0o2000));
}

#[test]
fn links_and_nodes_keep_what_they_were_made_with() {
    let root = root();
    assert_eq!(root.symlink(b"link", b"some/where"), Ok(()));
    let link = root.lookup(b"link").expect("there");
    assert_eq!((link.readlink(), link.metadata().size), (Ok(b"some/where".to_vec()), 10));
    assert_eq!(link.open(0).err(), Some(Errno::ELOOP));
    let node = root.create(b"null", abi::S_IFCHR | 0o666, 0x103).expect("made");
    assert_eq!((node.metadata().rdev, node.metadata().mode), (0x103, abi::S_IFCHR | 0o666));
    assert_eq!(node.readlink(), Err(Errno::EINVAL));
    assert_eq!(root.create(b"bad", 0o170000, 0).err(), Some(Errno::EINVAL));
}

/// A file without a name, and the same as an inode.
fn data_file() -> (Arc<RamInode>, Arc<dyn Inode>) {
    host::memory();
    let file = RamInode::new_anonymous(DEVICE, 0o600, Data::new_memfd(b"test", true));
    (file.clone(), file)
}

fn bytes(file: &RamInode) -> Vec<u8> {
    let data = file.data().expect("a regular file");
    let mut buffer = vec![0xee; data.size() as usize + 10];
    let mut to = Destination::kernel(&mut buffer);
    let mut position = 0;
    data.read(&mut to, &mut position).expect("no user memory");
    let count = to.done();
    buffer.truncate(count);
    buffer
}

#[test]
fn what_is_cut_off_does_not_come_back() {
    let (file, inode) = data_file();
    let data = file.data().expect("a regular file");
    assert_eq!(data.fill(&[7; 5000]), Ok(()));
    assert_eq!((data.size(), data.blocks()), (5000, 16));
    assert_eq!(data.truncate(&*inode, 4500), Ok(()));
    assert_eq!(data.allocate(&*inode, 0, 0, 5000), Ok(()));
    let expected: Vec<u8> = [vec![7; 4500], vec![0; 500]].concat();
    assert_eq!(bytes(&file), expected);
    assert_eq!(data.truncate(&*inode, 4096), Ok(()));
    assert_eq!(data.blocks(), 8);
    assert_eq!(inode.page(1).err(), Some(Errno::ENXIO), "beyond the end");
}

#[test]
fn a_hole_reads_as_zeros_and_takes_no_memory() {
    let (file, inode) = data_file();
    let data = file.data().expect("a regular file");
    assert_eq!(data.fill(&[7; 3 * 4096]), Ok(()));
    let punch = abi::FALLOC_FL_PUNCH_HOLE | abi::FALLOC_FL_KEEP_SIZE;
    assert_eq!(data.allocate(&*inode, punch, 4000, 4296), Ok(()));
    assert_eq!((data.size(), data.blocks()), (3 * 4096, 16), "one whole page was given back");
    let mut expected = vec![7; 3 * 4096];
    expected[4000..8296].fill(0);
    assert_eq!(bytes(&file), expected);
    assert_eq!(data.allocate(&*inode, abi::FALLOC_FL_KEEP_SIZE, 0, 100_000), Ok(()));
    assert_eq!((data.size(), data.blocks()), (3 * 4096, 25 * 8));
    assert_eq!(data.allocate(&*inode, 0, u64::MAX, 2), Err(Errno::EFBIG));
}

#[test]
fn seals_forbid_what_they_name_and_stay() {
    let (file, inode) = data_file();
    let data = file.data().expect("a regular file");
    assert_eq!(data.fill(&[7; 100]), Ok(()));
    assert_eq!(data.add_seals(&*inode, 1 << 30), Err(Errno::EINVAL));
    assert_eq!(data.add_seals(&*inode, abi::F_SEAL_SHRINK | abi::F_SEAL_GROW), Ok(()));
    assert_eq!(data.truncate(&*inode, 50), Err(Errno::EPERM));
    assert_eq!(data.allocate(&*inode, 0, 0, 200), Err(Errno::EPERM));
    assert_eq!(data.map(true), Ok(true));
    assert_eq!(data.add_seals(&*inode, abi::F_SEAL_WRITE | abi::F_SEAL_SEAL), Ok(()));
    assert_eq!(data.map(true), Ok(false));
    assert_eq!(data.allocate(&*inode, abi::FALLOC_FL_ZERO_RANGE, 0, 10), Err(Errno::EPERM));
    assert_eq!(data.add_seals(&*inode, abi::F_SEAL_FUTURE_WRITE), Err(Errno::EPERM), "F_SEAL_SEAL");
    assert_eq!(inode.label(), Some(b"/memfd:test (deleted)".to_vec()));
}

#[test]
fn mappings_and_reads_see_the_same_frame() {
    let (file, inode) = data_file();
    let data = file.data().expect("a regular file");
    assert_eq!(data.fill(b"abc"), Ok(()));
    let frame = inode.page(0).expect("its first page");
    // SAFETY: the frame is the file's, which this test alone has.
    unsafe { frame.as_ptr().write(b'X') };
    assert_eq!(bytes(&file), b"Xbc");
    // SAFETY: likewise. Beyond the end it is not the file's.
    unsafe { frame.as_ptr().add(3).write(b'Y') };
    assert_eq!(bytes(&file), b"Xbc");
    assert_eq!(data.allocate(&*inode, 0, 0, 5), Ok(()));
    assert_eq!(bytes(&file), b"Xbc\0\0", "what a mapping wrote there does not show");
}

/// A change of the tree, by directories and names.
#[derive(Clone, Debug)]
enum Change {
    File(usize, u8),
    Directory(usize, u8),
    Unlink(usize, u8),
    Rmdir(usize, u8),
    Rename(usize, u8, usize, u8, bool),
}

fn change() -> impl Strategy<Value = Change> {
    let (dir, name) = (|| 0usize..6, || b'a'..b'd');
    prop_oneof![
        (dir(), name()).prop_map(|(dir, name)| Change::File(dir, name)),
        (dir(), name()).prop_map(|(dir, name)| Change::Directory(dir, name)),
        (dir(), name()).prop_map(|(dir, name)| Change::Unlink(dir, name)),
        (dir(), name()).prop_map(|(dir, name)| Change::Rmdir(dir, name)),
        (dir(), name(), dir(), name(), any::<bool>()).prop_map(|(a, b, c, d, e)| Change::Rename(a, b, c, d, e)),
    ]
}

/// The tree as a map from paths to whether it is a directory.
type Model = Map<String, bool>;

fn subtree<'a>(model: &'a Model, path: &str) -> impl Iterator<Item = (&'a String, &'a bool)> {
    let below = format!("{path}/");
    let path = path.to_owned();
    model.iter().filter(move |(name, _)| **name == path || name.starts_with(&below))
}

fn list(directory: &Arc<dyn Inode>, path: &str, found: &mut Model) {
    for name in names(directory).into_iter().skip(2) {
        let inode = directory.lookup(name.as_bytes()).expect("it was listed");
        let path = format!("{path}/{name}");
        found.insert(path.clone(), inode.is_directory());
        if inode.is_directory() {
            list(&inode, &path, found);
        }
    }
}

proptest! {
    /// A tree of names under creation, removal, renaming and exchange is a map from paths.
    #[test]
    fn a_tree_is_a_map_from_paths(changes in vec(change(), 1..40)) {
        let root = root();
        let mut model = Model::new();
        for change in changes {
            // The directories that there are now, the root first.
            let directories: Vec<String> = std::iter::once(String::new())
                .chain(model.iter().filter(|(_, dir)| **dir).map(|(path, _)| path.clone())).collect();
            let pick = |n: usize| {
                let path = &directories[n % directories.len()];
                let inode = path.split('/').filter(|name| !name.is_empty())
                    .fold(root.clone(), |at, name| at.lookup(name.as_bytes()).expect("the model has it"));
                (path.clone(), inode)
            };
            match change {
                Change::File(n, name) | Change::Directory(n, name) => {
                    let is_directory = matches!(change, Change::Directory(..));
                    let (path, inode) = pick(n);
                    let path = format!("{path}/{}", name as char);
                    let made = inode.create(&[name], if is_directory { DIRECTORY } else { FILE }, 0);
                    prop_assert_eq!(made.is_ok(), !model.contains_key(&path));
                    model.entry(path).or_insert(is_directory);
                }
                Change::Unlink(n, name) => {
                    let (path, inode) = pick(n);
                    let path = format!("{path}/{}", name as char);
                    let expected = model.get(&path) == Some(&false);
                    prop_assert_eq!(inode.unlink(&[name]).is_ok(), expected);
                    if expected {
                        model.remove(&path);
                    }
                }
                Change::Rmdir(n, name) => {
                    let (path, inode) = pick(n);
                    let path = format!("{path}/{}", name as char);
                    let expected = model.get(&path) == Some(&true) && subtree(&model, &path).count() == 1;
                    prop_assert_eq!(inode.rmdir(&[name]).is_ok(), expected);
                    if expected {
                        model.remove(&path);
                    }
                }
                Change::Rename(n, name, m, new, exchange) => {
                    let ((from, old_dir), (to, new_dir)) = (pick(n), pick(m));
                    let (from_dir, to_dir) = (from.clone(), to.clone());
                    let (from, to) = (format!("{from}/{}", name as char), format!("{to}/{}", new as char));
                    let within = |dir: &str, path: &str| dir == path || dir.starts_with(&format!("{path}/"));
                    let allowed = match (model.get(&from), model.get(&to)) {
                        (None, _) => false,
                        _ if within(&to_dir, &from) => false,
                        (Some(_), None) => !exchange,
                        _ if from == to => true,
                        _ if within(&from_dir, &to) => false,
                        (Some(_), Some(_)) if exchange => true,
                        (Some(a), Some(b)) => a == b && subtree(&model, &to).count() == 1,
                    };
                    let flags = if exchange { abi::RENAME_EXCHANGE } else { 0 };
                    prop_assert_eq!(old_dir.rename(&[name], &new_dir, &[new], flags).is_ok(), allowed, "{} {}", from, to);
                    if allowed && from != to {
                        let moved = |old: &str, new: &str| -> Vec<(String, bool)> {
                            subtree(&model, old).map(|(path, dir)| (path.replacen(old, new, 1), *dir)).collect()
                        };
                        let (there, back) = (moved(&from, &to), moved(&to, &from));
                        model.retain(|path, _| !within(path, &from) && !within(path, &to));
                        model.extend(there);
                        model.extend(back.into_iter().filter(|_| exchange));
                    }
                }
            }
            let mut found = Model::new();
            list(&root, "", &mut found);
            prop_assert_eq!(&found, &model);
        }
    }
}
