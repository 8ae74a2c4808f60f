use std::sync::atomic::{AtomicU32, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::task::signals::info::{SI_TKILL, TRAP_TRACE};

/// A user that no other test has.
fn user() -> alloc::sync::Arc<User> {
    static NEXT: AtomicU32 = AtomicU32::new(1_000_000);
    User::find(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// From `sigqueue`, with a value to tell it by.
fn queued(signo: i32, value: u32) -> SigInfo {
    SigInfo::user(signo, -1, value as i32, 0)
}

fn value(signal: &Dequeued) -> u32 {
    signal.info.words()[0] as u32
}

#[test]
fn a_standard_signal_is_pending_once_and_the_first_counts() {
    let (mut pending, user) = (Pending::new(), user());
    assert_eq!(pending.push(queued(SIGUSR1, 1), &user, || 10), Ok(true));
    assert_eq!(pending.push(queued(SIGUSR1, 2), &user, || 10), Ok(false));
    assert_eq!(pending.take(SigSet::EMPTY).map(|signal| value(&signal)), Some(1));
    assert!(pending.take(SigSet::EMPTY).is_none() && pending.set().is_empty());
}

#[test]
fn real_time_signals_queue_in_order_and_leave_one_at_a_time() {
    let (mut pending, user) = (Pending::new(), user());
    for (signo, value) in [(40, 1), (35, 2), (40, 3), (35, 4)] {
        assert_eq!(pending.push(queued(signo, value), &user, || 10), Ok(true));
    }
    let order: Vec<_> = std::iter::from_fn(|| pending.take(SigSet::EMPTY)).map(|s| (s.signo(), value(&s))).collect();
    assert_eq!(order, [(35, 2), (35, 4), (40, 1), (40, 3)]);
}

#[test]
fn what_an_instruction_caused_comes_before_lower_numbers() {
    let (mut pending, user) = (Pending::new(), user());
    let _ = pending.push(queued(SIGHUP, 1), &user, || 10);
    let _ = pending.push(SigInfo::fault(SIGSEGV, 1, 0x1000), &user, || 10);
    assert_eq!(pending.take(SigSet::EMPTY).map(|signal| signal.signo()), Some(SIGSEGV));
    assert_eq!(pending.take(SigSet::EMPTY).map(|signal| signal.signo()), Some(SIGHUP));
}

#[test]
fn only_what_an_instruction_caused_is_taken_as_synchronous() {
    let (mut pending, user) = (Pending::new(), user());
    let _ = pending.push(SigInfo::user(SIGSEGV, SI_USER, 7, 0), &user, || 10);
    assert!(pending.take_synchronous(SigSet::EMPTY).is_none(), "kill(2) sent it");
    let _ = pending.push(SigInfo::fault(SIGTRAP, TRAP_TRACE, 0x2000), &user, || 10);
    assert!(pending.take_synchronous(SigSet::of(&[SIGTRAP, SIGSEGV])).is_none(), "blocked");
    assert_eq!(pending.take_synchronous(SigSet::EMPTY).map(|signal| signal.signo()), Some(SIGTRAP));
    assert_eq!(pending.set(), SigSet::of(&[SIGSEGV]));
}

#[test]
fn the_oldest_synchronous_signal_is_taken_even_if_only_another_is_not_blocked() {
    let (mut pending, user) = (Pending::new(), user());
    let _ = pending.push(SigInfo::fault(SIGSEGV, 1, 0x1000), &user, || 10);
    let _ = pending.push(SigInfo::fault(SIGTRAP, TRAP_TRACE, 0x2000), &user, || 10);
    let mut take = || pending.take_synchronous(SigSet::of(&[SIGSEGV])).map(|signal| signal.signo());
    assert_eq!([take(), take()], [Some(SIGSEGV), Some(SIGTRAP)]);
}

#[test]
fn blocked_signals_stay() {
    let (mut pending, user) = (Pending::new(), user());
    let _ = pending.push(queued(SIGUSR1, 1), &user, || 10);
    let _ = pending.push(queued(SIGTERM, 2), &user, || 10);
    let blocked = SigSet::of(&[SIGUSR1]);
    assert_eq!(pending.take(blocked).map(|signal| signal.signo()), Some(SIGTERM));
    assert!(pending.take(blocked).is_none());
    assert_eq!(pending.set(), blocked);
}

#[test]
fn over_the_limit_sigqueue_is_refused_and_kill_loses_its_sender() {
    let (mut pending, user) = (Pending::new(), user());
    assert_eq!(pending.push(queued(40, 1), &user, || 1), Ok(true));
    // sigqueue(3): EAGAIN, "the limit of signals which may be queued has been reached".
    assert_eq!(pending.push(queued(41, 2), &user, || 1).err(), Some(Errno::EAGAIN));
    assert_eq!(pending.push(SigInfo::user(42, SI_USER, 7, 9), &user, || 1), Ok(true));
    assert_eq!(pending.push(SigInfo::user(SIGUSR2, SI_TKILL, 7, 9), &user, || 1), Ok(true));
    assert_eq!(pending.set(), SigSet::of(&[40, 42, SIGUSR2]));
    let lost = pending.take(SigSet::of(&[40, SIGUSR2])).expect("42").info;
    assert_eq!((lost.signo, lost.code, lost.words()), (42, SI_USER, [0; 4]));
    let lost = pending.take(SigSet::of(&[40])).expect("SIGUSR2").info;
    assert_eq!(lost.words(), [0; 4]);
}

#[test]
fn the_charge_ends_when_the_signal_is_taken_or_forgotten() {
    let (mut pending, user) = (Pending::new(), user());
    for n in 0..3 {
        let _ = pending.push(queued(40, n), &user, || 10);
    }
    assert_eq!(user.queued(), 3);
    assert!(pending.take(SigSet::EMPTY).is_some());
    assert_eq!(user.queued(), 2);
    pending.flush(SigSet::of(&[40]));
    assert_eq!((user.queued(), pending.set()), (0, SigSet::EMPTY));
}

#[test]
fn sigkill_needs_no_room() {
    let (mut pending, user) = (Pending::new(), user());
    assert_eq!(pending.push(queued(SIGKILL, 1), &user, || 0), Ok(true));
    assert_eq!((pending.set(), user.queued()), (SigSet::of(&[SIGKILL]), 0));
}

#[test]
fn a_timer_that_runs_out_again_counts_and_does_not_queue_again() {
    let mut pending = Pending::new();
    assert_eq!(pending.push_timer(SigInfo::timer(34, 5, 0, 99), 1), Ok(true));
    assert_eq!(pending.push_timer(SigInfo::timer(34, 6, 0, 98), 1), Ok(true), "another timer's");
    assert_eq!(pending.push_timer(SigInfo::timer(34, 5, 0, 99), 2), Ok(false));
    let first = pending.queued(0).expect("timer 5");
    assert_eq!((first.timer_id(), first.overrun()), (Some(5), 1));
    assert_eq!(pending.queued(1).map(|info| info.overrun()), Some(0));
    assert!(pending.queued(2).is_none());
}

#[test]
fn without_room_information_is_lost_and_never_memory_allocated() {
    let (mut pending, user) = (Pending::new(), user());
    let room = pending.queue.capacity();
    for n in 0..room as u32 {
        assert_eq!(pending.push(queued(50, n), &user, || u64::MAX), Ok(true));
    }
    assert_eq!(pending.push(queued(50, 0), &user, || u64::MAX).err(), Some(Errno::EAGAIN));
    assert_eq!(pending.push_timer(SigInfo::timer(34, 1, 0, 0), 1).err(), Some(Errno::EAGAIN));
    assert_eq!(pending.push(SigInfo::user(SIGTERM, SI_USER, 1, 0), &user, || u64::MAX), Ok(true));
    assert_eq!(pending.queue.capacity(), room);
    pending.reserve(0);
    assert_eq!(pending.push(queued(50, 0), &user, || u64::MAX), Ok(true));
}

proptest! {
    /// Against a plain list: standard signals once, real-time ones in order, synchronous ones first, then the lowest number,
    /// the oldest of each.
    #[test]
    fn pending_signals_are_a_list(steps in vec((any::<bool>(), 1i32..=64, any::<u64>()), 1..60)) {
        let (mut pending, user) = (Pending::new(), user());
        let mut model: Vec<(i32, u32)> = Vec::new();
        for (n, (sends, signo, blocked)) in steps.into_iter().enumerate() {
            if sends {
                let news = signo >= SIGRTMIN || !model.iter().any(|&(other, _)| other == signo);
                pending.reserve(0);
                let mut sent = queued(signo, n as u32);
                if signo == SIGKILL {
                    sent = SigInfo::lost(SIGKILL);
                }
                prop_assert_eq!(pending.push(sent, &user, || u64::MAX), Ok(news));
                if news {
                    model.push((signo, if signo == SIGKILL { 0 } else { n as u32 }));
                }
            } else {
                let may = |signo: i32| blocked >> (signo - 1) & 1 == 0;
                let urgent = |signo: i32| [4, 5, 7, 8, 11, 31].contains(&signo);
                let next = model.iter().map(|&(signo, _)| signo).filter(|&signo| may(signo)).min_by_key(|&s| (!urgent(s), s));
                let expected = next.map(|signo| {
                    let at = model.iter().position(|&(other, _)| other == signo).expect("it is there");
                    model.remove(at)
                });
                let taken = pending.take(SigSet(blocked)).map(|signal| (signal.signo(), value(&signal)));
                prop_assert_eq!(taken, expected);
            }
            let set = SigSet(model.iter().fold(0, |bits, &(signo, _)| bits | 1 << (signo - 1)));
            prop_assert_eq!(pending.set(), set);
        }
    }
}
