use super::*;

#[test]
fn statuses_are_those_that_wait_2_takes_apart() {
    // WIFEXITED, WIFSIGNALED, WIFSTOPPED, WIFCONTINUED: bits/waitstatus.h.
    let exited = Change::Ended(42 << 8).status();
    assert_eq!((exited & 0x7f, exited >> 8 & 0xff), (0, 42));
    let killed = Change::Ended(9).status();
    assert_eq!((killed & 0x7f, killed & 0x80), (9, 0));
    let stopped = Change::Stopped(19).status();
    assert_eq!((stopped & 0xff, stopped >> 8), (0x7f, 19));
    assert_eq!(Change::Continued.status(), 0xffff);
    // PTRACE_EVENT_EXEC: status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8).
    assert_eq!(Change::Trapped(5 | 4 << 8).status() >> 8, 5 | 4 << 8);
}

#[test]
fn waitid_tells_them_by_code() {
    for (change, expected) in [
        (Change::Ended(42 << 8), (CLD_EXITED, 42)),
        (Change::Ended(9), (CLD_KILLED, 9)),
        (Change::Ended(11 | 0x80), (CLD_DUMPED, 11)),
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
    assert_eq!(process.group_exit(), None);
    assert_eq!(process.begin_group_exit(0), (0, true));
    assert_eq!(process.group_exit(), Some(0), "zero is a status, too");
    assert_eq!(process.begin_group_exit(9), (0, false));
}
