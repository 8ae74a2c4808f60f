use proptest::prelude::*;

use super::*;

fn interval(deadline: u64, period: u64) -> Interval {
    Interval { deadline, period, timer: None }
}

#[test]
fn an_armed_timer_has_always_something_left() {
    // getitimer(2): a timer that is armed is not reported as zero.
    assert_eq!(interval(100, 7).left(30), (70, 7));
    assert_eq!(interval(100, 7).left(100), (1, 7));
    assert_eq!(interval(100, 7).left(1000), (1, 7));
    assert_eq!(interval(0, 7).left(30), (0, 7));
}

#[test]
fn a_timer_that_does_not_repeat_is_over() {
    let mut once = interval(100, 0);
    assert_eq!((once.advance(500), once.deadline), (0, 0));
    let mut stopped = interval(100, 50);
    stopped.stop();
    assert_eq!(stopped.left(0), (0, 0));
}

proptest! {
    /// The next deadline is the first after now on the timer's grid, and what was passed over is counted.
    #[test]
    fn a_timer_keeps_its_grid(deadline in 1u64..10_000, period in 1u64..500, late in 0u64..20_000) {
        let now = deadline + late;
        let mut timer = interval(deadline, period);
        let missed = timer.advance(now);
        let next = (0u64..).map(|n| deadline + n * period).find(|&at| at > now).expect("the grid has no end");
        prop_assert_eq!(timer.deadline, next);
        let passed = (0u64..).take_while(|n| deadline + n * period <= now).count() as u64;
        prop_assert_eq!(missed + 1, passed);
    }
}
