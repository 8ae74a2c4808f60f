use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::host;
use crate::vfs::buffer::Destination;

/// One entry as cpio(5), "New ASCII Format", has it.
fn entry(name: &str, mode: u32, ino: u32, links: u32, data: &[u8]) -> Vec<u8> {
    let name_size = name.len() as u32 + 1;
    let fields = [ino, mode, 1000, 100, links, 1_600_000_000, data.len() as u32, 3, 1, 4, 64, name_size, 0];
    let mut bytes = b"070701".to_vec();
    fields.iter().for_each(|field| bytes.extend(format!("{field:08X}").into_bytes()));
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn trailer() -> Vec<u8> {
    entry("TRAILER!!!", 0, 0, 1, b"")
}

const FILE: u32 = abi::S_IFREG | 0o640;
const DIRECTORY: u32 = abi::S_IFDIR | 0o750;

fn unpacked(archive: &[u8]) -> Result<Arc<RamInode>> {
    host::memory();
    let root = RamInode::new_root(crate::fs::ramfs::DEVICE);
    unpack(archive, &root)?;
    Ok(root)
}

fn find(root: &Arc<RamInode>, path: &str) -> Result<Arc<dyn Inode>> {
    path.split('/').try_fold(root.clone() as Arc<dyn Inode>, |at, name| at.lookup(name.as_bytes()))
}

fn contents(inode: &Arc<dyn Inode>) -> Vec<u8> {
    let data = inode.downcast::<RamInode>().and_then(RamInode::data).expect("a regular file");
    let mut buffer = vec![0; data.size() as usize];
    data.read(&mut Destination::kernel(&mut buffer), &mut 0).expect("no user memory");
    buffer
}

#[test]
fn names_are_c_strings_and_stay_where_they_are() {
    let with = |name: &str| unpacked(&[entry(name, FILE, 1, 1, b"x"), trailer()].concat());
    for (name, found) in [("file\0hidden", "file"), ("a/./b", "a/b"), ("/a//b/", "a/b"), ("./c", "c"), ("d/.", "d")] {
        let root = with(name).expect("an archive");
        assert_eq!(find(&root, found).map(|file| file.metadata().mode), Ok(FILE), "{name:?}");
        assert_eq!(root.lookup(b".").err(), Some(Errno::ENOENT));
    }
    for (name, error) in [("a/../b", Errno::EINVAL), ("..", Errno::EINVAL), (&*"x".repeat(256), Errno::ENAMETOOLONG)] {
        assert_eq!(with(name).err(), Some(error), "{name:?}");
    }
    // A target, too; a link to nowhere is none.
    let linked = |target: &[u8]| {
        let root = unpacked(&[entry("l", abi::S_IFLNK | 0o777, 1, 1, target), trailer()].concat())?;
        find(&root, "l")?.readlink()
    };
    assert_eq!(linked(b"to\0there"), Ok(b"to".to_vec()));
    assert_eq!(linked(b"").err(), Some(Errno::EINVAL));
    assert_eq!(linked(&[b'x'; 4096]).err(), Some(Errno::EINVAL));
}

#[test]
fn a_later_archive_replaces_files_with_several_names() {
    let archive = |data: &[u8]| [entry("a", FILE, 7, 2, b""), entry("b", FILE, 7, 2, data), trailer()].concat();
    let root = unpacked(&[archive(b"old"), archive(b"new")].concat()).expect("archives");
    let (a, b) = (find(&root, "a").expect("there"), find(&root, "b").expect("there"));
    assert!(crate::vfs::inode::same(&a, &b));
    assert_eq!((contents(&a), a.metadata().links), (b"new".to_vec(), 2));
    // A name that comes twice is one name.
    let twice = [entry("a", FILE, 7, 3, b""), entry("a", FILE, 7, 3, b"data"), trailer()].concat();
    let file = unpacked(&twice).and_then(|root| find(&root, "a")).expect("there");
    assert_eq!((contents(&file), file.metadata().links), (b"data".to_vec(), 1));
}

#[test]
fn an_entry_has_data_owner_mode_and_time() {
    let archive = [entry("dir", DIRECTORY, 1, 2, b""), entry("dir/file", FILE, 2, 1, b"hello"), trailer()].concat();
    let root = unpacked(&archive).expect("an archive");
    let file = find(&root, "dir/file").expect("there");
    let metadata = file.metadata();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (FILE, 1000, 100));
    assert_eq!((metadata.modified, metadata.size), (1_600_000_000_000_000_000, 5));
    assert_eq!(contents(&file), b"hello");
    assert_eq!(find(&root, "dir").expect("there").metadata().mode, DIRECTORY);
}

#[test]
fn links_devices_and_fifos_are_made() {
    let archive = [
        entry("link", abi::S_IFLNK | 0o777, 1, 1, b"to/there"),
        entry("tty", abi::S_IFCHR | 0o600, 2, 1, b""),
        entry("fifo", abi::S_IFIFO | 0o600, 3, 1, b""),
        trailer(),
    ]
    .concat();
    let root = unpacked(&archive).expect("an archive");
    assert_eq!(find(&root, "link").and_then(|link| link.readlink()), Ok(b"to/there".to_vec()));
    assert_eq!(find(&root, "tty").map(|node| node.metadata().rdev), Ok(device_number(4, 64)));
    assert_eq!(find(&root, "fifo").map(|node| node.file_type()), Ok(abi::S_IFIFO));
}

#[test]
fn names_of_one_file_share_it_wherever_the_data_is() {
    // GNU cpio puts the data with the last name, others with the first.
    for parts in [[b"".as_slice(), b"data"], [b"data", b""]] {
        let archive = [entry("a", FILE, 7, 2, parts[0]), entry("b", FILE, 7, 2, parts[1]), trailer()].concat();
        let root = unpacked(&archive).expect("an archive");
        let (a, b) = (find(&root, "a").expect("there"), find(&root, "b").expect("there"));
        assert!(crate::vfs::inode::same(&a, &b));
        assert_eq!((contents(&a), a.metadata().links), (b"data".to_vec(), 2));
    }
}

#[test]
fn archives_follow_each_other_and_the_later_counts() {
    let first =
        [entry("file", FILE, 7, 2, b"old"), entry("dir/kept", FILE, 2, 1, b"kept"), trailer(), vec![0; 512]].concat();
    let second = [entry("dir", DIRECTORY, 3, 2, b""), entry("file", FILE, 7, 2, b"new"), trailer()].concat();
    let root = unpacked(&[first, second].concat()).expect("two archives");
    let file = find(&root, "file").expect("there");
    assert_eq!((contents(&file), file.metadata().links), (b"new".to_vec(), 1), "numbers begin anew");
    assert!(find(&root, "dir/kept").is_ok());
}

#[test]
fn leading_dots_and_slashes_are_the_root() {
    let archive =
        [entry(".", DIRECTORY, 1, 2, b""), entry("./a", FILE, 2, 1, b"1"), entry("/b", FILE, 3, 1, b"2"), trailer()];
    let root = unpacked(&archive.concat()).expect("an archive");
    assert!(find(&root, "a").is_ok() && find(&root, "b").is_ok());
    assert_eq!(root.metadata().mode, DIRECTORY);
}

#[test]
fn what_is_cut_off_or_no_archive_is_refused() {
    let archive = entry("file", FILE, 1, 1, b"hello");
    for len in 1..archive.len() - 3 {
        assert_eq!(unpacked(&archive[..len]).err(), Some(Errno::EINVAL), "{len}");
    }
    assert!(unpacked(&archive).is_ok(), "a trailer is not asked for");
    assert!(unpacked(&[]).is_ok());
    assert_eq!(unpacked(b"070707").err(), Some(Errno::EINVAL), "the old format");
}

#[test]
fn a_file_is_no_directory_for_later_names() {
    let archive = [entry("a", FILE, 1, 1, b""), entry("a/b", FILE, 2, 1, b""), trailer()].concat();
    assert_eq!(unpacked(&archive).err(), Some(Errno::ENOTDIR));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What was packed is there.
    #[test]
    fn there_and_back(files in btree_map("[a-c]{1,2}/[d-f]{1,3}", vec(any::<u8>(), 0..5000), 0..5)) {
        let mut archive: Vec<u8> = Vec::new();
        for (n, (name, data)) in files.iter().enumerate() {
            archive.extend(entry(name, FILE, n as u32, 1, data));
        }
        archive.extend(trailer());
        let root = unpacked(&archive).expect("an archive");
        for (name, data) in &files {
            let file = find(&root, name).expect("it was packed");
            prop_assert_eq!(&contents(&file), data);
        }
    }

    /// No bytes make it panic: neither any, nor an archive with some bytes changed.
    #[test]
    fn no_bytes_panic(garbage in vec(any::<u8>(), 0..300), changes in vec((0usize..300, any::<u8>()), 0..10)) {
        let _ = unpacked(&[b"070701".as_slice(), &garbage].concat());
        let mut archive = [entry("a/b", FILE, 1, 2, b"hello"), entry("c", DIRECTORY, 2, 1, b""), trailer()].concat();
        for (at, byte) in changes {
            let at = at % archive.len();
            archive[at] = byte;
        }
        let _ = unpacked(&archive);
    }
}
