use std::collections::BTreeMap;

use linux_raw_sys::general as abi;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::ramfs::RamInode;
use crate::host;

fn file(flags: u32) -> Arc<File> {
    host::memory();
    let inode = RamInode::new_root(crate::fs::ramfs::DEVICE);
    File::new(inode, Arc::new(crate::vfs::file::DirectoryOps), flags)
}

#[test]
fn the_lowest_free_descriptor_is_given() {
    let (table, file) = (FdTable::new(), file(0));
    let install = |minimum| table.install_from(file.clone(), false, minimum, 10);
    assert_eq!([install(0), install(0), install(0)], [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(table.close(1), Ok(()));
    assert_eq!(install(5), Ok(5), "F_DUPFD");
    assert_eq!([install(0), install(0)], [Ok(1), Ok(3)]);
}

#[test]
fn the_limit_is_one_past_the_highest_descriptor() {
    let (table, file) = (FdTable::new(), file(0));
    assert_eq!(table.install_from(file.clone(), false, 0, 1), Ok(0));
    assert_eq!(table.install_from(file.clone(), false, 0, 1), Err(Errno::EMFILE));
    assert_eq!(table.install_from(file, false, 7, 7), Err(Errno::EMFILE));
}

#[test]
fn a_descriptor_of_a_path_names_and_does_nothing_else() {
    let table = FdTable::new();
    let path = file(abi::O_PATH);
    assert_eq!(table.put(3, path.clone()), Ok(()));
    // open(2), O_PATH: other operations fail with EBADF.
    assert_eq!(table.get(3).err(), Some(Errno::EBADF));
    assert!(table.get_any(3).is_ok_and(|found| Arc::ptr_eq(&found, &path)));
    assert!(!path.is_readable() && !path.is_writable());
}

#[test]
fn exec_closes_what_is_marked() {
    let (table, file) = (FdTable::new(), file(0));
    for (fd, close) in [(0, false), (1, true), (2, false), (3, true)] {
        assert_eq!(table.install_from(file.clone(), close, fd, 100), Ok(fd));
    }
    assert_eq!(table.set_close_on_exec(2, true), Ok(()));
    assert_eq!(table.set_close_on_exec(3, false), Ok(()));
    assert_eq!([1, 3].map(|fd| table.close_on_exec(fd)), [Ok(true), Ok(false)]);
    table.close_for_exec();
    assert_eq!(table.descriptors(), [0, 3]);
    assert_eq!(table.close_on_exec(1), Err(Errno::EBADF));
}

#[test]
fn a_range_is_closed_or_marked_with_both_its_ends() {
    let (table, file) = (FdTable::new(), file(0));
    (0..6).for_each(|fd| assert_eq!(table.put(fd, file.clone()), Ok(())));
    table.close_range_on_exec(0, 1);
    table.close_range(2, 3);
    assert_eq!(table.descriptors(), [0, 1, 4, 5]);
    table.close_range(5, u64::MAX);
    table.close_range_on_exec(4, u64::MAX);
    table.close_for_exec();
    assert!(table.descriptors().is_empty());
}

#[test]
fn a_copy_shares_the_files_and_not_the_table() {
    let (table, file) = (FdTable::new(), file(0));
    assert_eq!(table.put(4, file.clone()), Ok(()));
    let copy = table.duplicate().expect("memory");
    assert_eq!(table.close(4), Ok(()));
    assert!(copy.get(4).is_ok_and(|found| Arc::ptr_eq(&found, &file)));
    drop(copy);
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn descriptors_are_numbers_of_32_bits() {
    // Linux takes `unsigned int`: the upper half of the register is nothing.
    let (table, file) = (FdTable::new(), file(0));
    assert_eq!(table.put(0, file), Ok(()));
    assert!(table.get(1 << 32).is_ok());
    assert_eq!(table.get(u64::from(u32::MAX)).err(), Some(Errno::EBADF));
}

proptest! {
    /// Against a map: the lowest free number from the minimum on, always.
    #[test]
    fn a_table_is_a_map_with_the_lowest_free_number(steps in vec((0u8..4, 0u64..12), 1..80)) {
        let (table, file) = (FdTable::new(), file(0));
        let mut model: BTreeMap<u64, bool> = BTreeMap::new();
        for (what, fd) in steps {
            match what {
                0 | 1 => {
                    let minimum = if what == 0 { 0 } else { fd };
                    let free = (minimum..).find(|fd| !model.contains_key(fd)).expect("there are enough numbers");
                    let expected = if free < 10 { Ok(free) } else { Err(Errno::EMFILE) };
                    prop_assert_eq!(table.install_from(file.clone(), what == 0, minimum, 10), expected);
                    if expected.is_ok() {
                        model.insert(free, what == 0);
                    }
                }
                2 => {
                    prop_assert_eq!(table.close(fd), model.remove(&fd).map(|_| ()).ok_or(Errno::EBADF));
                }
                _ => {
                    prop_assert_eq!(table.put(fd, file.clone()), Ok(()));
                    model.insert(fd, false);
                }
            }
            prop_assert_eq!(table.descriptors(), model.keys().copied().collect::<Vec<_>>());
            for (&fd, &close) in &model {
                prop_assert_eq!(table.close_on_exec(fd), Ok(close));
            }
            prop_assert_eq!(Arc::strong_count(&file), 1 + model.len());
        }
    }
}
