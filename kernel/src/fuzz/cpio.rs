//! An initramfs: the bytes are the archive.

use crate::fs::initramfs;
use crate::fs::ramfs::RamInode;
use crate::vfs::inode::Inode;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use linux_raw_sys::general as abi;

pub fn run(bytes: &[u8]) {
    let root = RamInode::new_root(crate::fs::ramfs::DEVICE);
    let unpacked = initramfs::unpack(bytes, &root).is_ok();
    // Also of an archive that ends in garbage, the first files are there.
    let mut tree = BTreeMap::new();
    list(root.clone(), &mut Vec::new(), &mut tree);
    let links = links(&tree);
    for inode in tree.values() {
        let metadata = inode.metadata();
        if !inode.is_directory() {
            assert_eq!(Some(&metadata.links), links.get(&metadata.ino), "names and links");
        }
        assert_eq!(metadata.mode & !(abi::S_IFMT | 0o7777), 0);
    }
    if unpacked {
        last_entries_are_there(bytes, &tree);
    }
}

type Tree = BTreeMap<Vec<u8>, Arc<dyn Inode>>;

/// Adds what is below `directory`. A path that leads back would never end.
fn list(directory: Arc<dyn Inode>, path: &mut Vec<u8>, tree: &mut Tree) {
    for name in names(&directory) {
        assert!(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0), "{name:?}");
        assert!(name != b"." && name != b"..", "{name:?}");
        let inode = directory.lookup(&name).expect("listed");
        let len = path.len();
        path.push(b'/');
        path.extend(&name);
        if inode.is_directory() {
            list(inode.clone(), path, tree);
        }
        tree.insert(path.clone(), inode);
        path.truncate(len);
    }
}

fn names(directory: &Arc<dyn Inode>) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    directory
        .readdir(2, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        })
        .expect("a directory");
    names
}

/// How many names each inode has.
fn links(tree: &Tree) -> BTreeMap<u64, u32> {
    let mut links = BTreeMap::new();
    for inode in tree.values() {
        *links.entry(inode.metadata().ino).or_default() += 1;
    }
    links
}

/// The last entry with a path says what is there, read by a second parser.
fn last_entries_are_there<'a>(mut archive: &'a [u8], tree: &Tree) {
    let mut last: BTreeMap<Vec<u8>, (u32, &'a [u8], bool)> = BTreeMap::new();
    while let Some(start) = archive.iter().position(|&byte| byte != 0) {
        archive = &archive[start..];
        let field = |n: usize| {
            archive[6 + 8 * n..14 + 8 * n].iter().fold(0, |value: usize, &digit| {
                value * 16 + (digit as char).to_digit(16).map_or(0, |digit| digit as usize)
            })
        };
        let (mode, links, size, name_size) = (field(1) as u32, field(4), field(6), field(11));
        let until_nul = |bytes: &'a [u8]| bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let name = until_nul(&archive[110..110 + name_size]);
        let data = (110 + name_size).next_multiple_of(4);
        if name != b"TRAILER!!!" {
            let mut path = Vec::new();
            for part in name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
                path.push(b'/');
                path.extend(part);
            }
            last.insert(path, (mode, &archive[data..data + size], links > 1));
        }
        archive = archive.get((data + size).next_multiple_of(4)..).unwrap_or(&[]);
    }
    for (path, (mode, data, linked)) in last {
        let Some(inode) = tree.get(&path) else {
            assert!(path.is_empty(), "{:?} is missing", path.escape_ascii().to_string());
            continue;
        };
        if linked {
            continue;
        }
        let metadata = inode.metadata();
        if mode & abi::S_IFMT == abi::S_IFREG {
            assert_eq!(metadata.mode, mode & (abi::S_IFMT | 0o7777));
            let file = inode.downcast::<RamInode>().and_then(RamInode::data).expect("a regular file");
            assert_eq!(file.size(), data.len() as u64);
        } else if mode & abi::S_IFMT == abi::S_IFLNK {
            assert_eq!(
                inode.readlink().as_deref().map(<[u8]>::len),
                Ok(data.split(|&byte| byte == 0).next().map_or(0, <[u8]>::len))
            );
        }
    }
}
