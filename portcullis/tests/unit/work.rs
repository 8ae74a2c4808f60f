//! Raising work, by one thread. The races are `tests/loom.rs`'s.
#![allow(unsafe_code, reason = "no task runs anywhere")]

use super::*;

const BOTH: ExitWork = ExitWork::from_bits(ExitWork::SIGPENDING.bits() | ExitWork::NEED_RESCHED.bits());

fn running_on(cpu: u32) -> WorkFlags {
    let flags = WorkFlags::new();
    // SAFETY: the flags are no task's.
    unsafe { flags.switch_in(cpu) };
    flags
}

#[test]
fn another_cpu_is_owed_an_interrupt_once() {
    let flags = running_on(2);
    assert_eq!(flags.raise(ExitWork::SIGPENDING, || Some(5)).cpu(), Some(2));
    assert_eq!(flags.raise(ExitWork::SIGPENDING, || Some(5)).cpu(), None, "who raised it first owes it");
    assert_eq!(flags.raise(BOTH, || Some(5)).cpu(), Some(2), "one of the two is new");
    assert_eq!(flags.raise(BOTH, || Some(5)).cpu(), None);
    assert_eq!((flags.running_on(), flags.exit_word()), (Some(2), BOTH.bits() as usize));
    assert_eq!(flags.raised_here(), 0);
}

#[test]
fn a_cpu_owes_itself_none_but_in_an_nmi() {
    let flags = running_on(2);
    assert_eq!(flags.raise(ExitWork::SIGPENDING, || Some(2)).cpu(), None);
    assert_eq!(flags.raised_here(), u32::from(cfg!(debug_assertions)));
    assert_eq!(flags.raise(ExitWork::NEED_RESCHED, || None).cpu(), Some(2));
}

#[test]
fn a_task_that_runs_nowhere_needs_no_interrupt() {
    let flags = running_on(0);
    // SAFETY: the flags are no task's.
    unsafe { flags.switch_out() };
    assert_eq!(flags.running_on(), None);
    flags.raise(ExitWork::SIGPENDING, || Some(0)).none_owed();
    assert!(flags.is_raised(ExitWork::SIGPENDING));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "OwedIpi")]
fn an_interrupt_that_is_owed_is_not_denied() {
    running_on(1).raise(ExitWork::SIGPENDING, || Some(0)).none_owed();
}

#[test]
fn what_is_taken_was_up_and_is_not_any_more() {
    let flags = WorkFlags::new();
    flags.raise(ExitWork::SIGPENDING, || None).none_owed();
    assert_eq!(flags.take(BOTH), ExitWork::SIGPENDING);
    assert_eq!(flags.take(BOTH), ExitWork::from_bits(0));
    assert!(!flags.is_raised(BOTH));
    assert_eq!(flags.exit_word(), 0);
}

#[test]
fn what_is_armed_stays_so_until_it_is_disarmed() {
    let flags = WorkFlags::new();
    flags.arm(SyscallWork::TRACE);
    flags.arm(SyscallWork::SECCOMP);
    flags.disarm(SyscallWork::TRACE);
    assert_eq!(flags.armed(), SyscallWork::SECCOMP);
    assert_eq!(flags.syscall_word(), SyscallWork::SECCOMP.bits() as usize);
}

#[test]
fn an_interrupt_is_sent_to_the_cpu_that_is_owed_it() {
    let mut sent = None;
    OwedIpi(Some(7)).send(|cpu| sent = Some(cpu));
    assert_eq!(sent, Some(7));
    OwedIpi(None).send(|_| panic!("none is owed"));
}
