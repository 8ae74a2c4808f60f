use proptest::prelude::*;

use super::*;

const END: u64 = 0x7fff_ffff_f000;

proptest! {
    /// Inside are `len` addresses from `start` on, also across the end of all addresses: the user's own business.
    #[test]
    fn a_task_is_inside_from_the_first_to_before_the_last(start: u64, len: u64, offset: u64, abort in 4..END) {
        let sequence = Sequence { _head: 0, start, len, abort };
        let expected = if offset < len { Verdict::Aborted(abort) } else { Verdict::Outside };
        prop_assert_eq!(sequence.verdict(start.wrapping_add(offset), END), expected);
    }

    #[test]
    fn an_abort_handler_is_in_user_memory(abort: u64) {
        let sequence = Sequence { _head: 0, start: 0x1000, len: 0x10, abort };
        let valid = (4..END).contains(&abort);
        prop_assert_eq!(sequence.verdict(0x1008, END) == Verdict::Aborted(abort), valid);
        prop_assert_eq!(sequence.verdict(0x1010, END), Verdict::Outside);
    }
}

#[test]
fn the_edges_of_user_memory() {
    for (abort, verdict) in [
        (0, Verdict::Invalid),
        (3, Verdict::Invalid),
        (4, Verdict::Aborted(4)),
        (END - 1, Verdict::Aborted(END - 1)),
        (END, Verdict::Invalid),
        (u64::MAX, Verdict::Invalid),
    ] {
        let sequence = Sequence { _head: 0, start: 0x1000, len: 0x10, abort };
        assert_eq!(sequence.verdict(0x1000, END), verdict, "{abort:#x}");
    }
}
