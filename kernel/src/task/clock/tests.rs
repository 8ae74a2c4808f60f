use proptest::prelude::*;

use super::*;

#[test]
fn a_time_that_is_not_normalised_or_negative_is_refused() {
    let ns = |seconds, nanoseconds| Timespec { seconds, nanoseconds }.to_ns();
    assert_eq!((ns(1, 999_999_999), ns(0, 0)), (Ok(1_999_999_999), Ok(0)));
    for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i64::MIN)] {
        assert_eq!(ns(seconds, nanoseconds), Err(Errno::EINVAL));
    }
    let us = |seconds, microseconds| Timeval { seconds, microseconds }.to_ns();
    assert_eq!(
        (us(1, 999_999), us(0, 1_000_000), us(0, -1)),
        (Ok(1_999_999_000), Err(Errno::EINVAL), Err(Errno::EINVAL))
    );
}

#[test]
fn what_is_too_long_is_the_longest_and_two_of_these_add() {
    let longest = Timespec { seconds: i64::MAX, nanoseconds: 999_999_999 }.to_ns();
    // include/linux/ktime.h: KTIME_MAX.
    assert_eq!(longest, Ok(9_223_372_036_854_775_807));
    assert!(MAX_NS.checked_add(MAX_NS).is_some());
    assert_eq!(Timespec { seconds: 9_223_372_036, nanoseconds: 854_775_807 }.to_ns(), Ok(MAX_NS));
    assert_eq!(Timespec { seconds: 9_223_372_036, nanoseconds: 854_775_808 }.to_ns(), Ok(MAX_NS));
}

#[test]
fn clocks_have_the_ids_of_the_abi() {
    let named = |id: u32| Clock::new(id.into()).ok();
    assert!([0, 5, 8, 11].into_iter().all(|id| named(id) == Some(Clock::Realtime)));
    assert!([1, 4, 6, 7, 9].into_iter().all(|id| named(id) == Some(Clock::Monotonic)));
    assert!(named(2) == Some(Clock::Process(0, CpuTime::All)) && named(3) == Some(Clock::Thread(0, CpuTime::All)));
    assert!([10, 12, 100].into_iter().all(|id| named(id).is_none()));
}

#[test]
fn a_cpu_clock_is_made_from_a_pid_as_clock_getcpuclockid_3_makes_it() {
    // include/linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK and MAKE_THREAD_CPUCLOCK; CPUCLOCK_SCHED is 2.
    let id = |pid: i32, which: i32, thread: i32| Clock::new(((!pid << 3) | which | thread << 2) as u32 as u64);
    assert!(id(1234, 2, 0) == Ok(Clock::Process(1234, CpuTime::All)));
    assert!(id(1234, 2, 1) == Ok(Clock::Thread(1234, CpuTime::All)));
    assert!(id(7, 1, 0) == Ok(Clock::Process(7, CpuTime::User)), "CPUCLOCK_VIRT");
    assert!(id(7, 0, 0) == Ok(Clock::Process(7, CpuTime::All)), "CPUCLOCK_PROF");
    assert!(id(7, 3, 0) == Err(Errno::EINVAL), "CLOCKFD");
}

#[test]
fn clocks_that_are_only_read_cannot_be_waited_for() {
    for id in [CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE] {
        assert!(Clock::to_wait_for(id.into()) == Err(Errno::EOPNOTSUPP) && Clock::new(id.into()).is_ok());
    }
    assert!(Clock::to_wait_for(CLOCK_BOOTTIME.into()) == Ok(Clock::Monotonic));
    assert!(Clock::to_wait_for(10) == Err(Errno::EINVAL));
}

proptest! {
    #[test]
    fn times_come_back(ns in 0..=MAX_NS) {
        prop_assert_eq!(Timespec::from_ns(ns).to_ns(), Ok(ns));
        prop_assert_eq!(Timeval::from_ns(ns).to_ns(), Ok(ns / 1000 * 1000));
    }
}
