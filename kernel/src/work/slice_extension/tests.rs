use super::*;

#[test]
fn who_is_granted_an_extension() {
    for (from_event, granted, other_work, decision) in [
        (false, false, false, Decision::Schedule),
        (false, false, true, Decision::Schedule),
        (false, true, false, Decision::Revoke),
        (false, true, true, Decision::Revoke),
        (true, false, false, Decision::Grant),
        (true, false, true, Decision::Revoke),
        (true, true, false, Decision::Revoke),
        (true, true, true, Decision::Revoke),
    ] {
        assert_eq!(decide(from_event, granted, other_work), decision, "{from_event} {granted} {other_work}");
    }
}

#[test]
fn which_work_goes_with_an_extension() {
    let goes_along = |work: ExitWork| work.bits() & !NOT_OTHER.bits() == 0;
    assert!(goes_along(ExitWork::NEED_RESCHED | ExitWork::NEED_RESCHED_LAZY));
    assert!(goes_along(ExitWork::USER_RETURN_NOTIFY));
    for other in [
        ExitWork::UPROBE,
        ExitWork::PATCH_PENDING,
        ExitWork::SIGPENDING,
        ExitWork::NOTIFY_SIGNAL,
        ExitWork::NOTIFY_RESUME,
        ExitWork::RSEQ,
    ] {
        assert!(!goes_along(other), "{other:?}");
    }
}
