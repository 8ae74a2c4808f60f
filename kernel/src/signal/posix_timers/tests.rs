use super::*;

#[test]
fn a_count_of_expiries_is_an_int_that_does_not_wrap() {
    // timer_getoverrun(2): DELAYTIMER_MAX at most.
    assert_eq!([-1, 0, 5, i64::from(i32::MAX), i64::MAX].map(count), [0, 0, 5, i32::MAX, i32::MAX]);
}
