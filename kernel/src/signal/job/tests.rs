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

#[test]
fn a_thread_owes_what_is_pending_for_it_or_its_process_and_not_blocked() {
    let (mut shared, mut thread) = (process(), TaskSignals::new());
    assert!(!thread.is_owed(&shared));
    shared.pending.add_lost(SIGUSR1);
    assert_eq!(thread.deliverable(&shared), SigSet::of(&[SIGUSR1]));
    thread.blocked = SigSet::of(&[SIGUSR1]);
    assert!(!thread.is_owed(&shared));
    thread.add_lost(SIGKILL);
    assert!(thread.is_owed(&shared) && thread.is_killed() && !thread.may_trap());
}

#[test]
fn a_child_inherits_the_mask_and_nothing_that_is_pending() {
    let mut parent = TaskSignals::new();
    (parent.blocked, parent.saved) = (SigSet::of(&[SIGUSR2]), Some(SigSet::EMPTY));
    parent.add_lost(SIGUSR1);
    parent.altstack = crate::task::signals::altstack::AltStack::of(0x1000, 0, 0x4000);
    let [thread, forked] = [false, true].map(|keeps| parent.fork(keeps));
    // fork(2), clone(2): "the set of pending signals is empty"; with CLONE_VM the alternate stack is cleared.
    assert_eq!((forked.blocked(), forked.pending(), forked.saved), (SigSet::of(&[SIGUSR2]), SigSet::EMPTY, None));
    assert_eq!((forked.altstack, thread.altstack.size), (parent.altstack, 0));
}

#[test]
fn a_tracer_sees_the_mask_that_a_call_has_set_aside() {
    let mut tracee = TaskSignals::new();
    (tracee.blocked, tracee.saved) = (SigSet::of(&[SIGUSR1]), Some(SigSet::of(&[SIGUSR2])));
    assert_eq!(tracee.mask_of_tracee(), SigSet::of(&[SIGUSR2]));
    tracee.set_mask_of_tracee(SigSet(u64::MAX));
    assert_eq!((tracee.blocked, tracee.saved), (SigSet(u64::MAX).without(SigSet::UNBLOCKABLE), None));
}
