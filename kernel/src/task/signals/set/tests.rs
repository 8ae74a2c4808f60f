use proptest::prelude::*;

use super::*;

#[test]
fn bits_are_those_of_the_abi() {
    // A program that blocks SIGHUP and SIGRTMAX passes this word (kernel/signal.c, sigmask).
    assert_eq!(SigSet::of(&[SIGHUP, 64]).0, 1 | 1 << 63);
    assert_eq!(SigSet::UNBLOCKABLE.0, 0x4_0100);
}

#[test]
fn validity_is_1_to_64() {
    assert!(!is_valid(0) && is_valid(1) && is_valid(64) && !is_valid(65) && !is_valid(-1));
}

#[test]
fn default_actions_are_those_of_signal_7() {
    // signal(7), "Standard signals": what neither terminates nor dumps.
    let stop = [19, 20, 21, 22];
    let ignore = [17, 18, 23, 28];
    let core = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];
    for signo in 1..=SIGRTMAX {
        assert_eq!(SigSet::STOP.contains(signo), stop.contains(&signo), "{signo}");
        assert_eq!(SigSet::IGNORE.contains(signo), ignore.contains(&signo), "{signo}");
        assert_eq!(SigSet::CORE.contains(signo), core.contains(&signo), "{signo}");
    }
}

proptest! {
    /// What an instruction caused comes first (Linux: `next_signal`), then the lowest number.
    #[test]
    fn the_next_signal_is_the_lowest_synchronous_one_or_the_lowest(bits: u64) {
        let set = SigSet(bits);
        let lowest = |among: &dyn Fn(i32) -> bool| (1..=64).find(|&signo| bits >> (signo - 1) & 1 != 0 && among(signo));
        let synchronous = lowest(&|signo| [4, 5, 7, 8, 11, 31].contains(&signo));
        prop_assert_eq!(set.next(), synchronous.or_else(|| lowest(&|_| true)));
    }

    #[test]
    fn sets_are_sets(a: u64, b: u64, signo in 1..=64) {
        let (a, b) = (SigSet(a), SigSet(b));
        prop_assert_eq!(a.union(b).contains(signo), a.contains(signo) || b.contains(signo));
        prop_assert_eq!(a.intersection(b).contains(signo), a.contains(signo) && b.contains(signo));
        prop_assert_eq!(a.without(b).contains(signo), a.contains(signo) && !b.contains(signo));
        let (mut with, mut without) = (a, a);
        with.insert(signo);
        without.remove(signo);
        prop_assert!(with.contains(signo) && !without.contains(signo));
        prop_assert_eq!(with.without(without), SigSet::of(&[signo]));
        prop_assert_eq!(a.is_empty(), (1..=64).all(|signo| !a.contains(signo)));
    }
}
