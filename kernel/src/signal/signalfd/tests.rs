use super::*;
use crate::task::signals::info::{CLD_KILLED, SI_KERNEL, SI_TIMER, SI_USER, SYS_SECCOMP};
use crate::task::signals::set::{SIGALRM, SIGCHLD, SIGIO, SIGSEGV, SIGSYS, SIGTERM};

fn u32_at(record: &Record, at: usize) -> u32 {
    u32::from_le_bytes(record.as_bytes()[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(record: &Record, at: usize) -> u64 {
    u64::from_le_bytes(record.as_bytes()[at..at + 8].try_into().expect("eight bytes"))
}

// The offsets are those of include/uapi/linux/signalfd.h; which fields there are, fs/signalfd.c, signalfd_copyinfo.

#[test]
fn senders_and_values() {
    let kill = Record::new(&SigInfo::user(SIGTERM, SI_USER, 77, 1000));
    assert_eq!([0, 4, 8, 12, 16].map(|at| u32_at(&kill, at)), [15, 0, 0, 77, 1000]);
    let queued = Record::new(&SigInfo::from_words(40, 0, -1, [77 | 1000 << 32, 0x1_2345_6789, 0, 0]));
    assert_eq!((u32_at(&queued, 12), u32_at(&queued, 44), u64_at(&queued, 48)), (77, 0x2345_6789, 0x1_2345_6789));
    let timer = Record::new(&SigInfo::timer(SIGALRM, 3, 9, 0xabcd));
    assert_eq!((u32_at(&timer, 12), u32_at(&timer, 24), u32_at(&timer, 32), u64_at(&timer, 48)), (0, 3, 9, 0xabcd));
}

#[test]
fn children_and_faults() {
    let child = Record::new(&SigInfo::from_words(SIGCHLD, 0, CLD_KILLED, [77 | 1000 << 32, 9, 10, 20]));
    assert_eq!([12, 16, 40].map(|at| u32_at(&child, at)), [77, 1000, 9]);
    assert_eq!((u64_at(&child, 56), u64_at(&child, 64)), (10, 20));
    let fault = Record::new(&SigInfo::fault(SIGSEGV, 1, 0xdead_0000_1000));
    assert_eq!((u64_at(&fault, 72), u32_at(&fault, 12)), (0xdead_0000_1000, 0));
}

#[test]
fn a_refused_call_has_number_address_and_architecture() {
    let call = Record::new(&SigInfo::system_call(SYS_SECCOMP, 5, 0x40_1000, 59, 0xc000_003e));
    assert_eq!((u32_at(&call, 4), u64_at(&call, 72)), (5, 0), "the address of a fault is another field");
    assert_eq!((u32_at(&call, 84), u64_at(&call, 88), u32_at(&call, 96)), (59, 0x40_1000, 0xc000_003e));
}

#[test]
fn a_poll_has_band_and_descriptor() {
    let poll = Record::new(&SigInfo::from_words(SIGIO, 0, 1, [0x41, 7, 0, 0]));
    assert_eq!((u32_at(&poll, 20), u32_at(&poll, 28), u32_at(&poll, 12)), (7, 0x41, 0));
}

#[test]
fn a_code_of_no_kind_has_a_sender() {
    for (signo, code) in [(SIGSEGV, SI_KERNEL), (SIGSEGV, 10), (SIGCHLD, 7), (SIGSYS, 50), (SIGTERM, SI_KERNEL + 1)] {
        let record = Record::new(&SigInfo::from_words(signo, 0, code, [77 | 1000 << 32, 5, 0, 0]));
        assert_eq!((u32_at(&record, 12), u64_at(&record, 72)), (77, 0), "{signo} {code}");
    }
    // Beyond what the signal has, small codes are those of poll.
    assert!(matches!(Layout::of(SIGSYS, 3), Layout::Poll) && matches!(Layout::of(SIGSYS, 2), Layout::System));
    assert!(matches!(Layout::of(SIGSEGV, SI_TIMER), Layout::Timer));
}
