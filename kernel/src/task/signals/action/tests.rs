use super::*;

fn handler(flags: ActionFlags, mask: SigSet) -> Action {
    Action { handler: 0x40_1000, flags: flags.bits(), restorer: 0x40_2000, mask }
}

#[test]
fn flags_are_those_of_the_abi() {
    // include/uapi/asm-generic/signal-defs.h; SA_RESTORER is x86's.
    assert_eq!(ActionFlags::RESTART.bits() | ActionFlags::NODEFER.bits() | ActionFlags::RESETHAND.bits(), 0xd000_0000);
    assert_eq!(ActionFlags::RESTORER.bits() | ActionFlags::SIGINFO.bits() | ActionFlags::ONSTACK.bits(), 0x0c00_0004);
}

#[test]
fn unknown_flags_and_masks_of_what_cannot_be_blocked_are_dropped() {
    let kept = Action { flags: u64::MAX, mask: SigSet(u64::MAX), ..Action::DEFAULT }.sanitized();
    // SA_UNSUPPORTED, 0x400, reads back as zero: so programs ask what is supported.
    assert_eq!(kept.flags & 0x400, 0);
    assert!(!kept.mask.contains(SIGKILL) && !kept.mask.contains(SIGSTOP) && kept.mask.contains(SIGCONT));
}

#[test]
fn how_an_action_was_set_is_not_shown() {
    let action = Action::ia32(0x1000, 4, 0x2000, SigSet::EMPTY).sanitized();
    assert!(action.is_ia32() && !action.shown().is_ia32());
    assert_eq!(action.shown().flags, 4);
    assert!(!handler(ActionFlags::SIGINFO, SigSet::EMPTY).is_ia32());
}

#[test]
fn defaults_end_stop_or_ignore() {
    assert!(Action::DEFAULT.ignores(SIGCHLD) && Action::DEFAULT.ignores(SIGCONT) && !Action::DEFAULT.ignores(SIGTERM));
    assert!(Action::DEFAULT.is_fatal(SIGTERM) && Action::DEFAULT.is_fatal(40));
    assert!(!Action::DEFAULT.is_fatal(SIGSTOP) && !Action::DEFAULT.is_fatal(SIGWINCH));
    let ignored = Action { handler: SIG_IGN, ..Action::DEFAULT };
    assert!(ignored.ignores(SIGTERM) && !ignored.is_fatal(SIGTERM));
    let caught = handler(ActionFlags::empty(), SigSet::EMPTY);
    assert!(!caught.ignores(SIGCHLD) && !caught.is_fatal(SIGTERM));
}

#[test]
fn exec_keeps_what_is_ignored_and_nothing_else() {
    let actions = SigHand::new();
    actions.lock()[SIGUSR1] = handler(ActionFlags::SIGINFO, SigSet::of(&[SIGUSR2]));
    actions.lock()[SIGTERM] = Action { handler: SIG_IGN, flags: 4, ..Action::DEFAULT };
    let copy = actions.fork();
    actions.reset_for_exec();
    assert_eq!(actions.get(SIGUSR1), Action::DEFAULT);
    assert_eq!(actions.get(SIGTERM), Action { handler: SIG_IGN, ..Action::DEFAULT });
    assert_eq!(actions.sets(), (SigSet::of(&[SIGTERM]), SigSet::EMPTY));
    assert_eq!(copy.sets(), (SigSet::of(&[SIGTERM]), SigSet::of(&[SIGUSR1])), "the child's are its own");
}
