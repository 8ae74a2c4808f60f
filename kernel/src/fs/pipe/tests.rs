use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::host;

/// A pipe's ends, neither of which waits.
fn pipe() -> (Arc<File>, Arc<File>) {
    host::memory();
    new_pipe(abi::O_NONBLOCK)
}

fn read(file: &File, len: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let count = file.read(&mut Destination::kernel(&mut buffer))?;
    buffer.truncate(count);
    Ok(buffer)
}

fn write(file: &File, bytes: &[u8]) -> Result<usize> {
    file.write(&mut Source::kernel(bytes))
}

#[test]
fn an_empty_pipe_has_nothing_now_and_nothing_ever_without_writers() {
    let (reader, writer) = pipe();
    assert_eq!(read(&reader, 10), Err(Errno::EAGAIN));
    assert_eq!(write(&writer, b"last"), Ok(4));
    drop(writer);
    assert_eq!(read(&reader, 10), Ok(b"last".to_vec()));
    assert_eq!(read(&reader, 10), Ok(vec![]), "end of file");
}

#[test]
fn each_end_goes_one_way() {
    let (reader, writer) = pipe();
    assert_eq!(write(&reader, b"x"), Err(Errno::EBADF));
    assert_eq!(read(&writer, 1), Err(Errno::EBADF));
    assert_eq!(reader.seek(0, abi::SEEK_SET), Err(Errno::ESPIPE));
}

#[test]
fn it_holds_64_kib_and_a_long_write_what_fits() {
    let (reader, writer) = pipe();
    // pipe(7): "since Linux 2.6.11, the pipe capacity is 16 pages".
    assert_eq!(write(&writer, &[7; 100_000]), Ok(65536));
    assert_eq!(write(&writer, b"x"), Err(Errno::EAGAIN));
    assert_eq!(read(&reader, 100_000).map(|bytes| bytes.len()), Ok(65536));
}

#[test]
fn writes_of_up_to_pipe_buf_are_whole_or_not_at_all() {
    let (reader, writer) = pipe();
    assert_eq!(write(&writer, &[0; CAPACITY - 100]), Ok(CAPACITY - 100));
    assert_eq!(write(&writer, &[1; 101]), Err(Errno::EAGAIN));
    assert_eq!(write(&writer, &[1; PIPE_BUF + 1]), Ok(100), "a longer one may be split");
    assert_eq!(read(&reader, 1).map(|bytes| bytes.len()), Ok(1));
    assert_eq!(write(&writer, b"y"), Ok(1));
}

#[test]
fn events_are_those_of_poll_2() {
    let (reader, writer) = pipe();
    let (readable, writable) = (abi::POLLIN | abi::POLLRDNORM, abi::POLLOUT | abi::POLLWRNORM);
    assert_eq!((reader.poll(None), writer.poll(None)), (0, writable));
    assert!(write(&writer, &[0; CAPACITY - PIPE_BUF + 1]).is_ok());
    assert_eq!((reader.poll(None), writer.poll(None)), (readable, 0), "less than PIPE_BUF is free");
    drop(writer);
    assert_eq!(reader.poll(None), readable | abi::POLLHUP);
    let (reader, writer) = pipe();
    drop(reader);
    assert_eq!(writer.poll(None) & abi::POLLERR, abi::POLLERR);
}

#[test]
fn a_fifo_without_a_reader_is_not_opened_for_writing_without_waiting() {
    host::memory();
    let inode: Arc<dyn Inode> = crate::fs::ramfs::RamInode::new_root(crate::fs::ramfs::DEVICE)
        .create(b"fifo", abi::S_IFIFO | 0o600, 0)
        .expect("made");
    let open = |flags| inode.clone().open(flags | abi::O_NONBLOCK);
    // fifo(7): ENXIO.
    assert_eq!(open(abi::O_WRONLY).err(), Some(Errno::ENXIO));
    let reader = open(abi::O_RDONLY).expect("a reader does not wait");
    assert_eq!(reader.poll(None), 0, "nobody has hung up yet");
    let writer = open(abi::O_WRONLY).expect("there is a reader");
    assert_eq!(write(&writer, b"ab"), Ok(2));
    drop(writer);
    assert_eq!(reader.poll(None), abi::POLLIN | abi::POLLRDNORM | abi::POLLHUP);
    assert_eq!(read(&reader, 10), Ok(b"ab".to_vec()));
    assert_eq!(read(&reader, 10), Ok(vec![]));
}

#[test]
fn a_fifo_keeps_nothing_when_its_last_end_is_closed() {
    host::memory();
    let inode: Arc<dyn Inode> = crate::fs::ramfs::RamInode::new_root(crate::fs::ramfs::DEVICE)
        .create(b"fifo", abi::S_IFIFO | 0o600, 0)
        .expect("made");
    let both = inode.clone().open(abi::O_RDWR | abi::O_NONBLOCK).expect("both ends at once");
    assert_eq!(write(&both, b"left"), Ok(4));
    drop(both);
    let both = inode.open(abi::O_RDWR | abi::O_NONBLOCK).expect("both ends at once");
    assert_eq!(read(&both, 10), Err(Errno::EAGAIN));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Bytes come out as they went in, and as many as there were.
    #[test]
    fn a_pipe_is_a_queue_of_bytes(steps in vec((any::<bool>(), 1usize..30_000), 1..60)) {
        let (reader, writer) = pipe();
        let mut model: VecDeque<u8> = VecDeque::new();
        let mut next = 0u8;
        for (writes, len) in steps {
            if writes {
                let bytes: Vec<u8> = (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(next)).collect();
                next = next.wrapping_add(len as u8);
                let room = CAPACITY - model.len();
                let expected = match len.min(room) {
                    0 => Err(Errno::EAGAIN),
                    fits if fits < len && len <= PIPE_BUF => Err(Errno::EAGAIN),
                    fits => Ok(fits),
                };
                prop_assert_eq!(write(&writer, &bytes), expected);
                model.extend(&bytes[..expected.unwrap_or(0)]);
            } else {
                let expected: Vec<u8> = model.drain(..len.min(model.len())).collect();
                prop_assert_eq!(read(&reader, len), if expected.is_empty() { Err(Errno::EAGAIN) } else { Ok(expected) });
            }
        }
    }
}
