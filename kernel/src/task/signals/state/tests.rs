use super::*;
use crate::task::signals::set::{SIGKILL, SIGUSR1, SIGUSR2};

#[test]
fn a_thread_owes_what_is_pending_for_it_or_its_process_and_not_blocked() {
    let (mut shared, mut thread) = (ProcessSignals::new(User::find(5_000_000)), TaskSignals::new());
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
    parent.altstack = AltStack::of(0x1000, 0, 0x4000);
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
