use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

fn words(info: &SigInfo32) -> Vec<u32> {
    info.as_bytes().chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

// The offsets are those of i386's siginfo_t (struct compat_siginfo): the union begins at 12.

#[test]
fn kill_and_sigqueue() {
    let kill = words(&SigInfo32::from(&SigInfo::user(SIGTERM, SI_USER, 77, 1000)));
    assert_eq!(kill[..6], [15, 0, 0, 77, 1000, 0]);
    let queued = SigInfo::from_words(40, 0, -1, [77 | 1000 << 32, 0x1_2345_6789, 0, 0]);
    // si_int is the low half of si_ptr.
    assert_eq!(words(&SigInfo32::from(&queued))[..6], [40, 0, -1i32 as u32, 77, 1000, 0x2345_6789]);
}

#[test]
fn timers_faults_and_system_calls() {
    let timer = words(&SigInfo32::from(&SigInfo::timer(SIGALRM, 3, 2, 0xabcd)));
    assert_eq!(timer[..6], [14, 0, SI_TIMER as u32, 3, 2, 0xabcd]);
    // The key is the third member behind the address: address, least bit, key.
    let fault = words(&SigInfo32::from(&SigInfo::fault(SIGSEGV, 4, 0x8048_1000).with_key(5)));
    assert_eq!(fault[..6], [11, 0, 4, 0x8048_1000, 0, 5]);
    let call = words(&SigInfo32::from(&SigInfo::system_call(SYS_SECCOMP, 9, 0x8048_1000, 11, 0x4000_0003)));
    assert_eq!(call[..6], [31, 9, 1, 0x8048_1000, 11, 0x4000_0003]);
}

#[test]
fn a_child_has_status_and_times() {
    let child = SigInfo::from_words(SIGCHLD, 0, CLD_EXITED, [77 | 1000 << 32, 42, 10, 20]);
    assert_eq!(words(&SigInfo32::from(&child))[..8], [17, 0, 1, 77, 1000, 42, 10, 20]);
}

#[test]
fn a_child_that_is_told_by_another_signal_has_the_layout_of_that() {
    // CLD_EXITED is 1: with SIGUSR1 that is POLL_IN, as Linux's siginfo_layout has it.
    let info = SigInfo::from_words(SIGUSR1, 0, 1, [5, 6, 0, 0]);
    assert_eq!(words(&SigInfo32::from(&info))[3..6], [5, 6, 0]);
}

proptest! {
    /// What a 32-bit program passes to rt_sigqueueinfo comes back to 32-bit programs.
    #[test]
    fn there_and_back(signo in 1i32..=64, code in prop_oneof![-8i32..10, Just(SI_KERNEL), any::<i32>()], fields: [u32; 5]) {
        let mut all = [0; 29];
        all[..5].copy_from_slice(&fields);
        let info = SigInfo32 { signo, errno: 1, code, fields: all };
        let back = SigInfo32::from(&SigInfo::from(&info));
        prop_assert_eq!((back.signo, back.errno, back.code), (signo, 1, code));
        // Which bits of the union's words the kind has.
        const ALL: u32 = u32::MAX;
        let kept: [u32; 5] = match (Layout::of(signo, code), signo, code) {
            (Layout::Kill | Layout::Poll, ..) => [ALL, ALL, 0, 0, 0],
            (Layout::Timer | Layout::Queued | Layout::System, ..) => [ALL, ALL, ALL, 0, 0],
            (Layout::Fault, SIGBUS, 4 | 5) => [ALL, 0xffff, 0, 0, 0],
            (Layout::Fault, SIGSEGV, 3) => [ALL, 0, ALL, ALL, 0],
            (Layout::Fault, SIGSEGV, 4) => [ALL, 0, ALL, 0, 0],
            (Layout::Fault, SIGTRAP, 6) => [ALL, ALL, ALL, ALL, 0],
            (Layout::Fault, ..) => [ALL, 0, 0, 0, 0],
            (Layout::Child, ..) => [ALL; 5],
        };
        for (n, &word) in back.fields.iter().enumerate() {
            let expected = fields.get(n).map_or(0, |&field| field & kept[n]);
            prop_assert_eq!(word, expected, "word {} of the union", n);
        }
    }
}
