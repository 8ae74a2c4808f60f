use linux_raw_sys::general::{S_IFDIR, S_IFREG};

use super::*;
use crate::fs::ramfs::RamInode;
use crate::vfs::inode::Inode;

fn line(start: u64, end: u64, prot: Prot, flags: AreaFlags, source: Source) -> String {
    let mut out = String::new();
    write_area(&Area { start, end, prot, max_prot: prot, flags, source }, &mut out).expect("a string");
    out
}

// What /proc/self/maps of a Linux 6.1 looks like.

#[test]
fn nameless_memory_has_no_name_and_heap_and_stack_have_one() {
    let read_write = Prot::READ | Prot::WRITE;
    let anonymous = |flags| line(0x7f00_0000_0000, 0x7f00_0000_2000, read_write, flags, Source::Anonymous);
    assert_eq!(anonymous(AreaFlags::empty()), "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 \n");
    let padding = " ".repeat(73 - "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 ".len());
    let named = |name| format!("7f0000000000-7f0000002000 rw-p 00000000 00:00 0 {padding}{name}\n");
    assert_eq!(anonymous(AreaFlags::HEAP), named("[heap]"));
    assert_eq!(anonymous(AreaFlags::STACK | AreaFlags::GROWS_DOWN), named("[stack]"));
}

#[test]
fn low_addresses_have_eight_digits() {
    let text = line(0x1_0000, 0x1_1000, Prot::empty(), AreaFlags::empty(), Source::Anonymous);
    assert!(text.starts_with("00010000-00011000 ---p "), "{text}");
}

#[test]
fn a_file_has_offset_device_number_and_path() {
    let root = RamInode::new_root(crate::fs::ramfs::DEVICE);
    let file =
        root.create(b"bin", S_IFDIR | 0o755, 0).and_then(|bin| bin.create(b"sh", S_IFREG | 0o755, 0)).expect("made");
    let ino = file.metadata().ino;
    let source = Source::File { file: file.clone(), first: 3, shared: true };
    let text = line(0x40_0000, 0x40_1000, Prot::READ | Prot::EXEC, AreaFlags::empty(), source.clone());
    let head = format!("00400000-00401000 r-xs 00003000 00:01 {ino} ");
    assert_eq!(text, format!("{head:73}/bin/sh\n"));
    root.lookup(b"bin").and_then(|bin| bin.unlink(b"sh")).expect("gone");
    let text = line(0x40_0000, 0x40_1000, Prot::READ, AreaFlags::empty(), source);
    assert!(text.ends_with(" /bin/sh (deleted)\n"), "{text}");
}
