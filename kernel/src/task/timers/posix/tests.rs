use proptest::prelude::*;

use crate::task::signals::quota::User;
use crate::task::timers::posix::*;

fn timer(deadline: u64, period: u64) -> Timer {
    Timer {
        id: 0,
        source: Source::Wall { realtime: false },
        signal: 0,
        value: 0,
        thread: 0,
        deadline,
        period,
        waits: None,
        fired: false,
        setting: 0,
        overrun: 0,
        last_overrun: 0,
        _charge: User::find(4_000_000).charge(),
    }
}

#[test]
fn what_is_not_set_or_does_not_repeat_does_not_move() {
    for (deadline, period) in [(0, 10), (100, 0), (100, 10)] {
        let mut timer = timer(deadline, period);
        assert_eq!((timer.forward(99), timer.deadline), (0, deadline));
    }
    let mut once = timer(100, 0);
    assert_eq!((once.forward(1000), once.deadline), (0, 100));
}

#[test]
fn the_longest_times_do_not_overflow() {
    let mut far = timer(1, 1);
    assert_eq!(far.forward(u64::MAX), i64::MAX);
    let mut wide = timer(1, u64::MAX - 5);
    assert_eq!((wide.forward(u64::MAX), wide.deadline), (2, u64::MAX));
}

proptest! {
    #[test]
    fn a_timer_moves_beyond_now_on_its_grid(deadline in 1u64..10_000, period in 1u64..500, late in 0u64..20_000) {
        let now = deadline + late;
        let mut timer = timer(deadline, period);
        let passed = timer.forward(now);
        prop_assert!(timer.deadline > now && timer.deadline <= now + period);
        prop_assert_eq!(timer.deadline, deadline + passed as u64 * period);
    }
}
