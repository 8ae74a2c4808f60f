use linux_raw_sys::general as abi;

use super::*;
use crate::errno::Errno;
use crate::fs::ramfs::RamInode;

fn file() -> Arc<dyn Inode> {
    RamInode::new_root(crate::fs::ramfs::DEVICE).create(b"file", abi::S_IFREG | 0o755, 0).expect("made")
}

#[test]
fn who_writes_cannot_be_run_and_who_runs_cannot_be_written() {
    let inode = file();
    let writer = inode.clone().open(abi::O_WRONLY).expect("nobody runs it");
    assert_eq!(DenyWrite::new(inode.clone()).err(), Some(Errno::ETXTBSY));
    drop(writer);
    let run = DenyWrite::new(inode.clone()).expect("nobody writes");
    let again = run.clone();
    drop(run);
    assert_eq!(inode.clone().open(abi::O_RDWR).err(), Some(Errno::ETXTBSY), "another runs it");
    assert!(inode.clone().open(abi::O_RDONLY).is_ok());
    drop(again);
    assert!(inode.open(abi::O_RDWR).is_ok());
}

#[test]
fn a_write_without_an_open_file_counts_while_it_lasts() {
    let inode = file();
    let result = while_writing(&inode, || {
        assert_eq!(DenyWrite::new(inode.clone()).err(), Some(Errno::ETXTBSY));
        Err::<(), _>(Errno::EFBIG)
    });
    assert_eq!(result, Err(Errno::EFBIG));
    let run = DenyWrite::new(inode.clone()).expect("it has ended");
    assert_eq!(while_writing(&inode, || Ok(())), Err(Errno::ETXTBSY));
    drop(run);
    assert_eq!(while_writing(&inode, || Ok(())), Ok(()));
}
