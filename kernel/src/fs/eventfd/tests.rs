use super::*;

fn eventfd(count: u64, semaphore: bool) -> Arc<File> {
    new_eventfd(count, semaphore, abi::O_NONBLOCK)
}

fn read(file: &File) -> Result<u64> {
    let mut bytes = [0; 8];
    file.read(&mut Destination::kernel(&mut bytes))?;
    Ok(u64::from_ne_bytes(bytes))
}

fn write(file: &File, value: u64) -> Result<usize> {
    file.write(&mut Source::kernel(&value.to_ne_bytes()))
}

// What eventfd(2) says.

#[test]
fn a_read_takes_all_and_sets_it_to_zero() {
    let file = eventfd(3, false);
    assert_eq!(write(&file, 4), Ok(8));
    assert_eq!((read(&file), read(&file)), (Ok(7), Err(Errno::EAGAIN)));
}

#[test]
fn a_semaphore_is_taken_one_by_one() {
    let file = eventfd(2, true);
    assert_eq!([read(&file), read(&file), read(&file)], [Ok(1), Ok(1), Err(Errno::EAGAIN)]);
}

#[test]
fn the_largest_value_is_the_largest_but_one() {
    let file = eventfd(0, false);
    assert_eq!(write(&file, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(write(&file, u64::MAX - 1), Ok(8));
    assert_eq!(file.poll(None), abi::POLLIN | abi::POLLRDNORM, "nothing can be added");
    assert_eq!(write(&file, 1), Err(Errno::EAGAIN));
    assert_eq!(write(&file, 0), Ok(8));
}

#[test]
fn buffers_have_eight_bytes_at_least() {
    let file = eventfd(1, false);
    assert_eq!(file.read(&mut Destination::kernel(&mut [0; 7])), Err(Errno::EINVAL));
    assert_eq!(file.write(&mut Source::kernel(&[0; 7])), Err(Errno::EINVAL));
    assert_eq!(file.read(&mut Destination::kernel(&mut [0; 100])), Ok(8));
}
