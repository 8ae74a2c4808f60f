use alloc::sync::Arc;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::ramfs::RamInode;
use crate::host;
use crate::memory::shared::SharedMemory;
use crate::memory::vma::Area;
use crate::memory::width::Width;
use crate::vfs::inode::Inode;

const READ_WRITE: Prot = Prot::READ.union(Prot::WRITE);
/// Where the tests map.
const START: u64 = 0x40_0000;

fn space() -> Arc<AddressSpace> {
    host::memory();
    AddressSpace::new(Width::Bits64, None).expect("memory")
}

/// Maps pages, counted from [`START`].
fn map(mm: &AddressSpace, pages: core::ops::Range<u64>, prot: Prot, flags: AreaFlags, source: Source) {
    let (start, end) = (START + pages.start * PAGE_SIZE, START + pages.end * PAGE_SIZE);
    mm.inner.lock().add(Area { start, end, prot, max_prot: Prot::all(), flags, source });
}

fn anonymous(pages: u64) -> Arc<AddressSpace> {
    let mm = space();
    map(&mm, 0..pages, READ_WRITE, AreaFlags::empty(), Source::Anonymous);
    mm
}

/// A file whose pages begin with 1, 2, 3.
fn file() -> Arc<dyn Inode> {
    let inode = RamInode::new_root(crate::fs::ramfs::DEVICE)
        .create(b"file", linux_raw_sys::general::S_IFREG | 0o644, 0)
        .expect("made");
    let bytes: Vec<u8> = (1..=3).flat_map(|n| [vec![n], vec![0; PAGE_SIZE as usize - 1]].concat()).collect();
    inode.downcast::<RamInode>().and_then(RamInode::data).expect("a regular file").fill(&bytes).expect("memory");
    inode
}

/// The first byte of a page, as a program would read it.
fn get(mm: &AddressSpace, page: u64) -> Result<u8> {
    let frame = mm.page(START + page * PAGE_SIZE, Access::Read)?;
    // SAFETY: a whole frame, which the reference keeps.
    Ok(unsafe { frame.as_ptr().read() })
}

/// Writes it.
fn put(mm: &AddressSpace, page: u64, value: u8) -> Result<()> {
    let frame = mm.page(START + page * PAGE_SIZE, Access::Write)?;
    // SAFETY: likewise; the tests' address spaces are this thread's.
    unsafe { frame.as_ptr().write(value) };
    Ok(())
}

fn refused(mm: &AddressSpace, addr: u64, access: Access) -> Option<(i32, i32)> {
    mm.fault(addr, access).err().map(|signal| (signal.signo, signal.code))
}

#[test]
fn an_error_code_says_what_the_access_was() {
    // SDM volume 3, figure 4-12.
    assert_eq!(
        [0b100, 0b110, 0b111, 0b1_0100].map(access_of),
        [Access::Read, Access::Write, Access::Write, Access::Execute]
    );
}

#[test]
fn nothing_mapped_and_nothing_allowed_are_two_kinds_of_sigsegv() {
    let mm = space();
    map(&mm, 0..1, Prot::READ, AreaFlags::empty(), Source::Anonymous);
    // sigaction(2): SEGV_MAPERR 1, SEGV_ACCERR 2.
    assert_eq!(refused(&mm, START - 1, Access::Read), Some((11, 1)));
    assert_eq!(refused(&mm, START + PAGE_SIZE, Access::Read), Some((11, 1)));
    assert_eq!(refused(&mm, START, Access::Write), Some((11, 2)));
    assert_eq!(refused(&mm, START, Access::Execute), Some((11, 2)));
    assert_eq!(refused(&mm, START, Access::Read), None);
    assert_eq!(refused(&mm, USER_END, Access::Read), Some((11, 1)));
    assert_eq!(refused(&mm, u64::MAX, Access::Read), Some((11, 1)));
}

#[test]
fn beyond_the_end_of_a_file_is_sigbus() {
    let mm = space();
    map(&mm, 0..5, Prot::READ, AreaFlags::empty(), Source::File { file: file(), first: 0, shared: false });
    assert_eq!(refused(&mm, START + 2 * PAGE_SIZE, Access::Read), None);
    // mmap(2), SIGBUS; BUS_ADRERR is 2.
    assert_eq!(refused(&mm, START + 3 * PAGE_SIZE, Access::Read), Some((7, 2)));
}

#[test]
fn reading_new_memory_takes_none() {
    let mm = anonymous(3);
    assert_eq!([0, 1].map(|page| get(&mm, page)), [Ok(0), Ok(0)]);
    let frames = [0, 1].map(|page| mm.page(START + page * PAGE_SIZE, Access::Read).expect("mapped").addr());
    assert_eq!(frames, [frames::zero_frame(); 2]);
    assert_eq!(put(&mm, 0, 7), Ok(()));
    assert_eq!((get(&mm, 0), get(&mm, 1)), (Ok(7), Ok(0)), "the frame of zeros is not written");
}

#[test]
fn who_is_alone_with_a_page_writes_it_without_a_copy() {
    let parent = anonymous(1);
    assert_eq!(put(&parent, 0, 7), Ok(()));
    let before = parent.page(START, Access::Read).expect("mapped").addr();
    let child = parent.fork().expect("memory");
    assert_eq!(put(&child, 0, 8), Ok(()));
    assert_eq!((get(&parent, 0), get(&child, 0)), (Ok(7), Ok(8)));
    drop(child);
    assert_eq!(put(&parent, 0, 9), Ok(()));
    assert_eq!(parent.page(START, Access::Read).expect("mapped").addr(), before);
}

#[test]
fn a_private_mapping_shows_the_file_until_it_is_written() {
    let (mm, file) = (space(), file());
    map(&mm, 0..3, READ_WRITE, AreaFlags::empty(), Source::File { file: file.clone(), first: 0, shared: false });
    map(&mm, 8..11, READ_WRITE, AreaFlags::empty(), Source::File { file, first: 0, shared: true });
    assert_eq!([0, 1, 2].map(|page| get(&mm, page)), [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(put(&mm, 8, 11), Ok(()));
    assert_eq!(get(&mm, 0), Ok(11));
    assert_eq!((put(&mm, 0, 12), put(&mm, 8, 13)), (Ok(()), Ok(())));
    assert_eq!((get(&mm, 0), get(&mm, 8)), (Ok(12), Ok(13)));
}

#[test]
fn a_debugger_reads_everything_and_writes_what_is_private() {
    let mm = space();
    map(&mm, 0..1, Prot::empty(), AreaFlags::empty(), Source::Anonymous);
    let memory = Arc::new(SharedMemory::new());
    map(&mm, 2..3, Prot::READ, AreaFlags::empty(), Source::Shared { memory, first: 0 });
    let forced = |page: u64, access| mm.fault_forced(START + page * PAGE_SIZE, access).is_ok();
    assert!(forced(0, Access::Read) && forced(0, Access::Write));
    assert!(forced(2, Access::Read) && !forced(2, Access::Write), "others would see it");
    assert_eq!(refused(&mm, START, Access::Read), Some((11, 2)));
}

#[test]
fn discarded_memory_is_new_again() {
    let mm = anonymous(2);
    assert_eq!((put(&mm, 0, 7), put(&mm, 1, 8)), (Ok(()), Ok(())));
    assert_eq!(mm.discard(START, PAGE_SIZE), Ok(()));
    assert!(!mm.is_resident(START) && mm.is_resident(START + PAGE_SIZE));
    assert_eq!((get(&mm, 0), get(&mm, 1)), (Ok(0), Ok(8)));
    assert_eq!(mm.discard(START, 3 * PAGE_SIZE), Err(Errno::ENOMEM), "a part is not mapped");
}

#[test]
fn a_child_gets_what_its_parent_lets_it() {
    let parent = space();
    for (page, flags) in [(0, AreaFlags::empty()), (2, AreaFlags::DONT_FORK), (4, AreaFlags::WIPE_ON_FORK)] {
        map(&parent, page..page + 1, READ_WRITE, flags, Source::Anonymous);
        assert_eq!(put(&parent, page, 7), Ok(()));
    }
    let child = parent.fork().expect("memory");
    assert_eq!([0, 2, 4].map(|page| get(&child, page)), [Ok(7), Err(Errno::EFAULT), Ok(0)]);
    assert_eq!([0, 2, 4].map(|page| get(&parent, page)), [Ok(7); 3]);
}

#[test]
fn words_of_shared_memory_have_one_identity_and_others_are_ones_own() {
    use crate::memory::contents::Identity;
    let (mm, file) = (anonymous(1), file());
    let memory = Arc::new(SharedMemory::new());
    map(&mm, 4..6, READ_WRITE, AreaFlags::empty(), Source::Shared { memory: memory.clone(), first: 3 });
    map(&mm, 8..9, Prot::READ, AreaFlags::empty(), Source::File { file: file.clone(), first: 1, shared: false });
    let identity = |page: u64, access| mm.identity(START + page * PAGE_SIZE + 8, access);
    assert_eq!(identity(0, Access::Read), Ok(Identity::Own));
    let expected = Identity::Shared { object: memory.number(), offset: 4 * PAGE_SIZE + 8 };
    assert_eq!(identity(5, Access::Write), Ok(expected));
    let of_file = Identity::Shared { object: file.metadata().ino, offset: PAGE_SIZE + 8 };
    assert_eq!(identity(8, Access::Read), Ok(of_file), "not written so far");
    assert_eq!(identity(8, Access::Write), Err(Errno::EFAULT));
    assert_eq!(mm.identity(START - 8, Access::Read), Err(Errno::EFAULT));
}

#[test]
fn memory_is_read_up_to_the_first_page_that_is_not_there() {
    let mm = anonymous(2);
    assert_eq!(put(&mm, 1, 7), Ok(()));
    let mut buffer = vec![0xff; 3 * PAGE_SIZE as usize];
    assert_eq!(mm.read(START + 5, &mut buffer), 2 * PAGE_SIZE as usize - 5);
    assert_eq!((buffer[PAGE_SIZE as usize - 5], buffer[2 * PAGE_SIZE as usize - 5]), (7, 0xff));
    assert_eq!(mm.read(u64::MAX - 3, &mut buffer), 0);
}

#[test]
fn protection_is_changed_up_to_the_first_obstacle() {
    let mm = anonymous(2);
    map(&mm, 3..4, READ_WRITE, AreaFlags::empty(), Source::Anonymous);
    assert_eq!(put(&mm, 0, 7), Ok(()));
    // mprotect(2): ENOMEM for pages that are not mapped.
    assert_eq!(mm.protect(START, 4 * PAGE_SIZE, Prot::READ, None), Err(Errno::ENOMEM));
    assert_eq!([0, 1, 3].map(|page| put(&mm, page, 9)), [Err(Errno::EFAULT), Err(Errno::EFAULT), Ok(())]);
    assert_eq!(get(&mm, 0), Ok(7));
    assert_eq!(mm.protect(START + 1, PAGE_SIZE, Prot::READ, None), Err(Errno::EINVAL));
    assert_eq!(mm.protect(START, 0, Prot::READ, None), Ok(()));
    assert_eq!(mm.protect(START, PAGE_SIZE, READ_WRITE, None), Ok(()));
    assert_eq!((put(&mm, 0, 8), get(&mm, 0)), (Ok(()), Ok(8)));
}

/// What a page of the model is.
#[derive(Clone, Debug)]
struct Page {
    /// Nothing, the shared object's page, the file's page.
    of: Backing,
    writable: bool,
    /// What was last written to a private page.
    private_copy: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Backing {
    Zeros,
    Object(u64),
    File(u64, bool),
}

#[derive(Clone, Debug)]
enum Step {
    Map(usize, u64, u8),
    Unmap(usize, u64, u64),
    Protect(usize, u64, bool),
    Write(usize, u64, u8),
    Discard(usize, u64),
    Fork(usize),
    Exit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, page) = (|| 0usize..4, || 0u64..6);
    prop_oneof![
        (who(), page(), 0u8..4).prop_map(|(who, page, kind)| Step::Map(who, page, kind)),
        (who(), page(), 1u64..4).prop_map(|(who, page, len)| Step::Unmap(who, page, len)),
        (who(), page(), any::<bool>()).prop_map(|(who, page, writable)| Step::Protect(who, page, writable)),
        (who(), page(), any::<u8>()).prop_map(|(who, page, value)| Step::Write(who, page, value)),
        (who(), page(), any::<u8>()).prop_map(|(who, page, value)| Step::Write(who, page, value)),
        (who(), page()).prop_map(|(who, page)| Step::Discard(who, page)),
        who().prop_map(Step::Fork),
        who().prop_map(Step::Exit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Processes that fork, map, write, protect and end see in their memory what a model without frames, tables or copies on
    /// write has there.
    #[test]
    fn memory_is_what_a_model_without_frames_has(steps in vec(step(), 1..50)) {
        let (file, object) = (file(), Arc::new(SharedMemory::new()));
        let (mut of_file, mut of_object) = ([1u8, 2, 3], [0u8; 3]);
        let mut processes = vec![(space(), BTreeMap::<u64, Page>::new())];
        for step in steps {
            let count = processes.len();
            match step {
                Step::Map(who, page, kind) => {
                    let (mm, model) = &mut processes[who % count];
                    let (source, of) = match kind {
                        0 => (Source::Anonymous, Backing::Zeros),
                        1 => (Source::Shared { memory: object.clone(), first: page % 3 }, Backing::Object(page % 3)),
                        _ => (
                            Source::File { file: file.clone(), first: page % 3, shared: kind == 3 },
                            Backing::File(page % 3, kind == 3),
                        ),
                    };
                    mm.unmap(START + page * PAGE_SIZE, PAGE_SIZE).expect("whole pages");
                    map(mm, page..page + 1, READ_WRITE, AreaFlags::empty(), source);
                    model.insert(page, Page { of, writable: true, private_copy: None });
                }
                Step::Unmap(who, page, len) => {
                    let (mm, model) = &mut processes[who % count];
                    mm.unmap(START + page * PAGE_SIZE, len * PAGE_SIZE).expect("whole pages");
                    model.retain(|at, _| !(page..page + len).contains(at));
                }
                Step::Protect(who, page, writable) => {
                    let (mm, model) = &mut processes[who % count];
                    let prot = if writable { READ_WRITE } else { Prot::READ };
                    let result = mm.protect(START + page * PAGE_SIZE, PAGE_SIZE, prot, None);
                    prop_assert_eq!(result.is_ok(), model.contains_key(&page));
                    model.entry(page).and_modify(|page| page.writable = writable);
                }
                Step::Write(who, page, value) => {
                    let (mm, model) = &mut processes[who % count];
                    let allowed = model.get(&page).is_some_and(|page| page.writable);
                    prop_assert_eq!(put(mm, page, value).is_ok(), allowed);
                    if let Some(page) = model.get_mut(&page).filter(|_| allowed) {
                        match page.of {
                            Backing::Object(n) => of_object[n as usize] = value,
                            Backing::File(n, true) => of_file[n as usize] = value,
                            _ => page.private_copy = Some(value),
                        }
                    }
                }
                Step::Discard(who, page) => {
                    let (mm, model) = &mut processes[who % count];
                    prop_assert_eq!(mm.discard(START + page * PAGE_SIZE, PAGE_SIZE).is_ok(), model.contains_key(&page));
                    model.entry(page).and_modify(|page| page.private_copy = None);
                }
                Step::Fork(who) if count < 4 => {
                    let (mm, model) = &processes[who % count];
                    let child = (mm.fork().expect("memory"), model.clone());
                    processes.push(child);
                }
                Step::Exit(who) if count > 1 => drop(processes.swap_remove(who % count)),
                Step::Fork(_) | Step::Exit(_) => {}
            }
            for (mm, model) in &processes {
                for page in 0..9 {
                    let expected = model.get(&page).map(|page| page.private_copy.unwrap_or(match page.of {
                        Backing::Zeros => 0,
                        Backing::Object(n) => of_object[n as usize],
                        Backing::File(n, _) => of_file[n as usize],
                    }));
                    prop_assert_eq!(get(mm, page), expected.ok_or(Errno::EFAULT), "page {}", page);
                }
            }
        }
    }
}
