use super::*;

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
fn messages_stay_apart_and_what_does_not_fit_is_lost() {
    let (a, b) = pair(abi::O_NONBLOCK);
    assert_eq!((write(&a, b"one"), write(&a, b"second")), (Ok(3), Ok(6)));
    assert_eq!(read(&b, 100), Ok(b"one".to_vec()));
    assert_eq!(read(&b, 3), Ok(b"sec".to_vec()));
    assert_eq!(read(&b, 100), Err(Errno::EAGAIN), "the rest is gone");
}

#[test]
fn both_directions_are_independent() {
    let (a, b) = pair(abi::O_NONBLOCK);
    assert_eq!((write(&a, b"to b"), write(&b, b"to a")), (Ok(4), Ok(4)));
    assert_eq!((read(&a, 10), read(&b, 10)), (Ok(b"to a".to_vec()), Ok(b"to b".to_vec())));
}

#[test]
fn a_closed_end_is_the_end_of_file_after_what_was_sent() {
    let (a, b) = pair(abi::O_NONBLOCK);
    assert_eq!(write(&a, b"last"), Ok(4));
    drop(a);
    assert_eq!(
        b.poll(None) & (abi::POLLHUP | abi::POLLRDHUP | abi::POLLIN),
        abi::POLLHUP | abi::POLLRDHUP | abi::POLLIN
    );
    assert_eq!((read(&b, 10), read(&b, 10)), (Ok(b"last".to_vec()), Ok(vec![])));
}

#[test]
fn a_message_is_whole_or_refused() {
    let (a, b) = pair(abi::O_NONBLOCK);
    assert_eq!(write(&a, &[0; LONGEST + 1]), Err(Errno(errno::EMSGSIZE as usize)));
    assert_eq!((write(&a, &[1; LONGEST]), write(&a, &[2; LONGEST])), (Ok(LONGEST), Ok(LONGEST)));
    assert_eq!(write(&a, b"x"), Err(Errno::EAGAIN));
    assert_eq!(a.poll(None) & abi::POLLOUT, 0);
    assert_eq!(read(&b, LONGEST).map(|message| message.len()), Ok(LONGEST));
    assert_eq!(write(&a, b"x"), Ok(1));
}
