use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A position in these segments, as `readv` makes it.
fn cursor(segments: &[(u64, usize)]) -> Cursor {
    let mut rest: Vec<Segment> = segments.iter().map(|&(base, len)| Segment { base, len }).collect();
    rest.reverse();
    let remaining = segments.iter().map(|&(_, len)| len).sum();
    let current = rest.pop().unwrap_or(Segment { base: 0, len: 0 });
    Cursor { current, rest, remaining, done: 0, in_kernel: true }
}

#[test]
fn a_kernel_buffer_is_filled_in_pieces() {
    let mut buffer = [0xff; 8];
    let mut to = Destination::kernel(&mut buffer);
    assert_eq!(to.put(b"abc"), Ok(()));
    assert_eq!(to.put_zeros(2), Ok(()));
    assert_eq!((to.done(), to.remaining()), (5, 3));
    assert_eq!(to.finish(Err(Errno::EFAULT)), Ok(5), "what was moved counts more than the error");
    assert_eq!(buffer, *b"abc\0\0\xff\xff\xff");
    assert_eq!(Destination::kernel(&mut []).finish(Err(Errno::EIO)), Err(Errno::EIO));
}

#[test]
fn a_source_gives_skips_and_ends() {
    let mut from = Source::kernel(b"abcdef");
    let mut two = [0; 2];
    assert_eq!(from.take(&mut two), Ok(()));
    from.skip(1);
    from.limit(2);
    assert_eq!((from.remaining(), &two), (2, b"ab"));
    assert_eq!(from.take_all(100), Ok(b"de".to_vec()));
    assert_eq!((from.remaining(), from.done()), (0, 5));
}

#[test]
fn a_text_is_read_from_a_position_to_its_end() {
    let mut buffer = [0; 4];
    let mut position = 3;
    let mut to = Destination::kernel(&mut buffer);
    assert_eq!(to.put_from(b"hello", &mut position), Ok(2));
    assert_eq!(to.put_from(b"hello", &mut position), Ok(0), "the end");
    assert_eq!(position, 5);
    let mut beyond = u64::MAX;
    assert_eq!(to.put_from(b"hello", &mut beyond), Ok(0));
    assert_eq!(beyond, u64::MAX);
    assert_eq!(buffer, *b"lo\0\0");
}

#[test]
fn one_transfer_moves_no_more_than_linux_moves() {
    // read(2): "at most 0x7ffff000 (2,147,479,552) bytes".
    assert_eq!(Source::user(0, u64::MAX).remaining(), 2_147_479_552);
}

#[test]
fn a_page_of_user_memory_ends_where_the_next_may_fault() {
    let to = Destination::user(0x1ffe, 100);
    assert_eq!(to.to_page_end(), 2);
    assert_eq!(Destination::user(0x2000, 100).to_page_end(), 100);
}

proptest! {
    /// The pieces are the segments in order, cut at the lengths that were asked for, without gap or overlap.
    #[test]
    fn pieces_are_the_segments_in_order(lens in vec(0usize..50, 0..8), asked in vec(0usize..60, 0..12)) {
        let segments: Vec<_> = lens.iter().enumerate().map(|(n, &len)| (1000 * n as u64, len)).collect();
        let bytes: Vec<u64> = segments.iter().flat_map(|&(base, len)| base..base + len as u64).collect();
        let mut cursor = cursor(&segments);
        let mut at = 0;
        for len in asked {
            let len = len.min(cursor.remaining);
            let mut moved = Vec::new();
            let result = cursor.advance(len, |base, offset, piece| {
                assert_eq!(offset, moved.len());
                moved.extend(base..base + piece as u64);
                Ok(())
            });
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(&moved[..], &bytes[at..at + len]);
            at += len;
            prop_assert_eq!((cursor.done, cursor.remaining), (at, bytes.len() - at));
        }
    }

    /// A fault counts what came before it and nothing of the piece that failed.
    #[test]
    fn a_fault_counts_what_came_before(lens in vec(1usize..20, 1..8), bad in 0usize..8) {
        let segments: Vec<_> = lens.iter().enumerate().map(|(n, &len)| (1000 * n as u64, len)).collect();
        let bad = bad % segments.len();
        let mut cursor = cursor(&segments);
        let all = cursor.remaining;
        let result = cursor.advance(all, |base, _, _| if base == segments[bad].0 { Err(Errno::EFAULT) } else { Ok(()) });
        prop_assert_eq!(result, Err(Errno::EFAULT));
        prop_assert_eq!(cursor.done, lens[..bad].iter().sum::<usize>());
    }
}
