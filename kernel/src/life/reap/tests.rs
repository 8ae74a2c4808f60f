use super::*;

#[test]
fn wait4_reports_stops_for_a_tracer_as_stops() {
    assert_eq!(Change::Ended(WaitStatus::exited(42)).status(), WaitStatus::exited(42));
    assert_eq!(Change::Stopped(19).status(), WaitStatus::stopped(19));
    assert_eq!(Change::Trapped(5 | 4 << 8).status(), WaitStatus::stopped(5 | 4 << 8));
    assert_eq!(Change::Continued.status(), WaitStatus::continued());
}

#[test]
fn waitid_tells_them_by_code() {
    for (change, expected) in [
        (Change::Ended(WaitStatus::exited(42)), (CLD_EXITED, 42)),
        (Change::Ended(WaitStatus::killed(9)), (CLD_KILLED, 9)),
        (Change::Ended(WaitStatus::core_dumped(11)), (CLD_DUMPED, 11)),
        (Change::Stopped(19), (CLD_STOPPED, 19)),
        (Change::Trapped(5 | 4 << 8), (CLD_TRAPPED, 5 | 4 << 8)),
        (Change::Continued, (CLD_CONTINUED, 18)),
    ] {
        assert_eq!(change.code_and_status(), (expected.0 as i32, expected.1));
    }
}

#[test]
fn children_are_chosen_by_number_group_or_as_they_are() {
    let process = Process::new(77, None, None);
    let other = Process::new(77, None, None);
    assert!(Which::Any.includes(&process, 5));
    assert!(Which::Pid(77).includes(&process, 77) && !Which::Pid(77).includes(&process, 78), "of a thread by its own");
    assert!(Which::Group(0).includes(&process, 77) && !Which::Group(77).includes(&process, 77));
    assert!(Which::Process(&process).includes(&process, 77) && !Which::Process(&other).includes(&process, 77));
    assert!(!Which::Process(&process).includes(&process, 78), "another thread's end is not the process's");
}

#[test]
fn the_first_end_of_a_process_counts() {
    let process = Process::new(77, None, None);
    let exited = WaitStatus::exited(0);
    assert_eq!(process.group_exit(), None);
    assert_eq!(process.begin_group_exit(exited), (exited, true));
    assert_eq!(process.group_exit(), Some(exited), "zero is a status, too");
    assert_eq!(process.begin_group_exit(WaitStatus::killed(9)), (exited, false));
}
