use super::*;
use crate::fs::pipe;
use crate::host;
use crate::vfs::buffer::{Destination, Source};

/// A set as an open file.
fn set() -> Arc<File> {
    new_epoll()
}

/// Puts a file into a set as descriptor `fd`, as `epoll_ctl` does.
fn add(set: &Arc<File>, fd: i32, file: &Arc<File>, events: u32) -> Result<()> {
    nest(set, file)?;
    let entry = Entry {
        file: Arc::downgrade(file),
        event: Event { events, data: fd as u64 },
        seen: 0,
        edges: 0,
        disabled: false,
    };
    of_file(set).expect("a set").entries.lock().insert((fd, Arc::as_ptr(file) as usize), entry);
    Ok(())
}

/// The events of one look, with the descriptors that they are of.
fn look(set: &Arc<File>) -> Vec<(u64, u32)> {
    let poll = of_file(set).expect("a set");
    poll.look(&poll.files(), None, 100).into_iter().map(|event| (event.data, event.events)).collect()
}

/// A pipe's ends, neither of which waits.
fn pipe() -> (Arc<File>, Arc<File>) {
    host::memory();
    pipe::new_pipe(abi::O_NONBLOCK)
}

fn write(file: &File) {
    assert_eq!(file.write(&mut Source::kernel(b"x")), Ok(1));
}

fn read(file: &File) {
    assert_eq!(file.read(&mut Destination::kernel(&mut [0])), Ok(1));
}

#[test]
fn a_level_is_reported_as_long_as_it_lasts() {
    let ((reader, writer), set) = (pipe(), set());
    assert_eq!(add(&set, 3, &reader, abi::EPOLLIN), Ok(()));
    assert_eq!(look(&set), []);
    write(&writer);
    assert_eq!((look(&set), look(&set)), (vec![(3, abi::EPOLLIN)], vec![(3, abi::EPOLLIN)]));
    read(&reader);
    assert_eq!(look(&set), []);
}

#[test]
fn an_edge_is_reported_once_until_it_was_gone() {
    let ((reader, writer), set) = (pipe(), set());
    assert_eq!(add(&set, 3, &reader, abi::EPOLLIN | abi::EPOLLET), Ok(()));
    write(&writer);
    assert_eq!((look(&set), look(&set)), (vec![(3, abi::EPOLLIN)], vec![]));
    read(&reader);
    assert_eq!(look(&set), []);
    write(&writer);
    assert_eq!(look(&set), [(3, abi::EPOLLIN)]);
}

#[test]
fn a_one_shot_entry_is_reported_once() {
    let ((reader, writer), set) = (pipe(), set());
    assert_eq!(add(&set, 3, &reader, abi::EPOLLIN | abi::EPOLLONESHOT), Ok(()));
    write(&writer);
    assert_eq!((look(&set), look(&set)), (vec![(3, abi::EPOLLIN)], vec![]));
    read(&reader);
    write(&writer);
    assert_eq!(look(&set), [], "until EPOLL_CTL_MOD");
    assert!(!of_file(&set).is_some_and(|set| set.is_ready(None)));
}

#[test]
fn errors_and_hang_ups_are_reported_though_nobody_asked() {
    let ((reader, writer), set) = (pipe(), set());
    assert_eq!(add(&set, 3, &reader, 0), Ok(()));
    drop(writer);
    assert_eq!(look(&set), [(3, abi::EPOLLHUP)]);
}

#[test]
fn a_closed_file_leaves_the_set() {
    let ((reader, _writer), set) = (pipe(), set());
    assert_eq!(add(&set, 3, &reader, abi::EPOLLIN), Ok(()));
    drop(reader);
    assert!(of_file(&set).is_some_and(|set| set.files().is_empty()));
}

#[test]
fn a_set_is_readable_when_one_of_its_files_is_ready() {
    let ((reader, writer), inner, outer) = (pipe(), set(), set());
    assert_eq!((add(&inner, 3, &reader, abi::EPOLLIN), add(&outer, 4, &inner, abi::EPOLLIN)), (Ok(()), Ok(())));
    assert_eq!((inner.poll(None), look(&outer)), (0, vec![]));
    write(&writer);
    assert_eq!(look(&outer), [(4, abi::EPOLLIN)]);
}

#[test]
fn sets_contain_each_other_five_deep_and_never_in_a_circle() {
    // epoll_ctl(2), ELOOP: a circular loop, or a nesting depth greater than 5.
    let sets: Vec<_> = (0..6).map(|_| set()).collect();
    for n in 0..4 {
        assert_eq!(add(&sets[n], 3, &sets[n + 1], abi::EPOLLIN), Ok(()), "{n}");
    }
    assert_eq!(add(&sets[4], 3, &sets[5], abi::EPOLLIN), Err(Errno::ELOOP), "the sixth");
    assert_eq!(add(&sets[5], 3, &sets[0], abi::EPOLLIN), Err(Errno::ELOOP), "the sixth, from above");
    assert_eq!(add(&sets[4], 3, &sets[0], abi::EPOLLIN), Err(Errno::ELOOP), "a circle");
}
