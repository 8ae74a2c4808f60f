use super::*;
use crate::task::signals::quota::User;

fn process() -> ProcessSignals {
    ProcessSignals::new(User::find(5_000_000))
}

fn stopping() -> TaskSignals {
    let mut signals = TaskSignals::new();
    (signals.stop.pending, signals.stop.counts) = (true, true);
    signals
}

#[test]
fn the_last_thread_that_stops_says_so() {
    let (mut shared, mut threads) = (process(), [stopping(), stopping(), stopping()]);
    (shared.stop_count, shared.stop_signal, shared.continued) = (3, SIGTSTP, true);
    let last = [0, 1, 2].map(|n| participate(&mut shared, &mut threads[n]));
    assert_eq!(last, [false, false, true]);
    assert!(shared.is_stopped() && !shared.continued);
    assert_eq!(shared.take_stop_report(false), Some(SIGTSTP), "WNOWAIT leaves it");
    assert_eq!((shared.take_stop_report(true), shared.take_stop_report(true)), (Some(SIGTSTP), None));
}

#[test]
fn who_does_not_count_ends_no_stop() {
    let (mut shared, mut thread) = (process(), TaskSignals::new());
    shared.stop_count = 1;
    assert!(!participate(&mut shared, &mut thread));
    assert_eq!((shared.stop_count, shared.is_stopped()), (1, false));
    let mut counted = stopping();
    assert!(participate(&mut shared, &mut counted));
    assert!(!participate(&mut shared, &mut counted), "once each");
}
