use zerocopy::IntoBytes;

use super::*;

fn u32_at(info: &SigInfo, offset: usize) -> u32 {
    u32::from_le_bytes(info.as_bytes()[offset..offset + 4].try_into().expect("four bytes"))
}

fn u64_at(info: &SigInfo, offset: usize) -> u64 {
    u64::from_le_bytes(info.as_bytes()[offset..offset + 8].try_into().expect("eight bytes"))
}

// The offsets are those of x86-64's siginfo_t (include/uapi/asm-generic/siginfo.h): the union begins at 16.

#[test]
fn kill_has_sender_and_user() {
    let info = SigInfo::user(SIGTERM, SI_USER, 0x1234, 1000);
    assert_eq!([0, 4, 8, 16, 20].map(|at| u32_at(&info, at)), [15, 0, 0, 0x1234, 1000]);
}

#[test]
fn a_timer_has_number_overrun_and_value() {
    let info = SigInfo::timer(SIGALRM, 3, 7, 0xdead_beef_0000_0001);
    assert_eq!([8, 16, 20].map(|at| u32_at(&info, at)), [SI_TIMER as u32, 3, 7]);
    assert_eq!(u64_at(&info, 24), 0xdead_beef_0000_0001);
    assert_eq!((info.timer_id(), info.overrun()), (Some(3), 7));
}

#[test]
fn a_fault_has_address_and_key() {
    let info = SigInfo::fault(SIGSEGV, 4, 0x7fff_0000_1000).with_key(9);
    assert_eq!(u64_at(&info, 16), 0x7fff_0000_1000);
    // si_pkey stands behind si_addr_lsb, aligned as a pointer is.
    assert_eq!(u32_at(&info, 32), 9);
    assert_eq!(info.addr(), 0x7fff_0000_1000);
}

#[test]
fn a_refused_call_has_address_number_and_architecture() {
    let info = SigInfo::system_call(SYS_SECCOMP, 77, 0x40_1000, 59, 0xc000_003e);
    assert_eq!([0, 4, 8].map(|at| u32_at(&info, at)), [31, 77, 1]);
    assert_eq!((u64_at(&info, 16), u32_at(&info, 24), u32_at(&info, 28)), (0x40_1000, 59, 0xc000_003e));
}

#[test]
fn the_end_of_a_child_is_told_as_waitpid_decodes_it() {
    // wait(2): WIFEXITED, WEXITSTATUS, WTERMSIG, WCOREDUMP.
    for (status, expected) in [
        (WaitStatus::exited(0), (CLD_EXITED, 0)),
        (WaitStatus::exited(42), (CLD_EXITED, 42)),
        (WaitStatus::exited(255), (CLD_EXITED, 255)),
        (WaitStatus::killed(SIGKILL), (CLD_KILLED, SIGKILL)),
        (WaitStatus::core_dumped(SIGSEGV), (CLD_DUMPED, SIGSEGV)),
        (WaitStatus::killed(64), (CLD_KILLED, 64)),
    ] {
        assert_eq!(SigInfo::end(status), expected, "{status:?}");
    }
}

#[test]
fn only_senders_and_children_are_numbers_of_a_namespace() {
    let change = |pid: Pid| pid + 1000;
    assert_eq!(u32_at(&SigInfo::user(SIGTERM, SI_TKILL, 5, 6).with_pid(change), 16), 1005);
    assert_eq!(u32_at(&SigInfo::user(SIGTERM, SI_TKILL, 5, 6).with_pid(change), 20), 6, "the user stays");
    let child = SigInfo::from_words(SIGCHLD, 0, CLD_EXITED, [pair(5, 6), 0, 0, 0]);
    assert_eq!(u32_at(&child.with_pid(change), 16), 1005);
    let fault = SigInfo::fault(SIGSEGV, 1, 5);
    assert_eq!(fault.with_pid(change), fault, "an address is no process");
    let timer = SigInfo::timer(SIGALRM, 5, 0, 0);
    assert_eq!(timer.with_pid(change), timer);
}

#[test]
fn the_count_of_expiries_ends_at_the_largest() {
    let mut info = SigInfo::timer(40, 1, i32::MAX - 1, 0);
    info.count_overrun();
    info.count_overrun();
    assert_eq!((info.overrun(), info.timer_id()), (i32::MAX, Some(1)));
}

#[test]
fn a_fault_is_synchronous_and_its_number_alone_is_not() {
    assert!(SigInfo::fault(SIGBUS, BUS_ADRALN, 0).is_synchronous());
    assert!(SigInfo::kernel(SIGSEGV).is_synchronous());
    assert!(!SigInfo::user(SIGSEGV, SI_USER, 1, 0).is_synchronous());
    assert!(!SigInfo::user(SIGSEGV, SI_TKILL, 1, 0).is_synchronous());
    assert!(!SigInfo::kernel(SIGTERM).is_synchronous());
}

#[test]
fn layouts_that_are_known_are_those_of_linux() {
    // kernel/signal.c, known_siginfo_layout.
    let known = |signo, code| SigInfo::from_words(signo, 0, code, [0; 4]).has_known_layout();
    assert!(known(SIGTERM, SI_KERNEL) && known(SIGTERM, SI_USER) && known(SIGTERM, SI_DETHREAD));
    assert!(!known(SIGTERM, SI_DETHREAD - 1) && known(SIGTERM, SI_ASYNCNL) && !known(SIGTERM, SI_ASYNCNL - 1));
    for (signo, highest) in
        [(SIGILL, 11), (SIGFPE, 15), (SIGSEGV, 9), (SIGBUS, 5), (SIGTRAP, 6), (SIGCHLD, 6), (SIGSYS, 2)]
    {
        assert!(known(signo, highest) && !known(signo, highest + 1), "{signo}");
    }
}
