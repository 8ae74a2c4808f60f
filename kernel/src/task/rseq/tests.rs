use proptest::prelude::*;

use super::*;

#[test]
fn the_auxiliary_vector_has_linuxs_numbers() {
    assert_eq!((FEATURE_SIZE, ALIGN), (33, 64));
}

#[test]
fn lengths_and_alignments() {
    for (area, len, valid) in [
        (0x1000, 31, false),
        (0x1000, 32, true),
        (0x1020, 32, true),
        (0x1010, 32, false),
        (0x1000, 33, true),
        (0x1020, 33, false),
        (0x1040, 33, true),
        (0x1020, 64, false),
        (0x1040, 0x1000, true),
        (0x1040, u32::MAX, true),
        (0x1040, 0, false),
        (0x1040, 20, false),
    ] {
        assert_eq!(is_valid_length(area, len), valid, "{len} bytes at {area:#x}");
    }
}

#[test]
fn which_areas_are_extended() {
    let rseq = TaskRseq::new();
    for (len, extended) in [(0, false), (32, false), (33, true), (64, true)] {
        rseq.set_registration(0x1000, len, 1);
        assert_eq!(rseq.is_extended(), extended, "{len} bytes");
        assert_eq!(rseq.shown(), Ids::NONE);
    }
}

proptest! {
    #[test]
    fn what_is_shown_is_kept(cpu: u32, concurrency_id: u32) {
        let rseq = TaskRseq::new();
        rseq.set_shown(Ids { cpu, concurrency_id });
        prop_assert_eq!(rseq.shown(), Ids { cpu, concurrency_id });
    }
}
