use proptest::prelude::*;

use super::*;

/// futex(2), FUTEX_OP.
fn encode(operation: u32, argument: u32, comparison: u32, compared: u32) -> u32 {
    (operation & 0xf) << 28 | (comparison & 0xf) << 24 | (argument & 0xfff) << 12 | compared & 0xfff
}

fn apply(operation: u32, argument: u32, old: u32) -> Result<u32> {
    Operation::new(encode(operation, argument, 0, 0)).apply(old)
}

#[test]
fn operations_are_those_of_the_manual() {
    assert_eq!(apply(0, 7, 5), Ok(7), "FUTEX_OP_SET");
    assert_eq!(apply(1, 7, u32::MAX), Ok(6), "FUTEX_OP_ADD");
    assert_eq!(apply(2, 0b101, 0b011), Ok(0b111), "FUTEX_OP_OR");
    assert_eq!(apply(3, 0b101, 0b111), Ok(0b010), "FUTEX_OP_ANDN");
    assert_eq!(apply(4, 0b101, 0b111), Ok(0b010), "FUTEX_OP_XOR");
    assert_eq!(apply(5, 0, 0), Err(Errno::ENOSYS));
}

#[test]
fn arguments_are_signed_or_a_shift() {
    assert_eq!(apply(0, 0xfff, 0), Ok(u32::MAX), "-1");
    assert_eq!(apply(0, 0x800, 0), Ok(-2048i32 as u32));
    assert_eq!(apply(8, 5, 0), Ok(1 << 5), "FUTEX_OP_ARG_SHIFT");
    assert_eq!(apply(8 | 2, 31, 1), Ok(1 << 31 | 1));
    assert_eq!(apply(8, 33, 0), Ok(1 << 1), "Linux masks it, with a warning");
}

#[test]
fn one_waiter_at_least_is_woken() {
    assert_eq!([i32::MIN, -1, 0, 1, 2].map(at_least_one), [1, 1, 1, 1, 2]);
}

proptest! {
    #[test]
    fn comparisons_are_signed(compared in -2048i32..2048, old: i32) {
        let wakes = |comparison| Operation::new(encode(0, 0, comparison, compared as u32)).wakes(old as u32);
        prop_assert_eq!(
            [0, 1, 2, 3, 4, 5].map(wakes),
            [old == compared, old != compared, old < compared, old <= compared, old > compared, old >= compared].map(Ok)
        );
        prop_assert_eq!(wakes(6), Err(Errno::ENOSYS));
    }
}
