use super::*;
use crate::task::process::Process;

fn with_cpu(soft: u64, hard: u64) -> Limits {
    let mut limits = Limits::default();
    limits.0[RLIMIT_CPU as usize] = Limit { soft, hard };
    limits
}

#[test]
fn a_process_begins_with_linuxs_limits() {
    // include/asm-generic/resource.h, INIT_RLIMITS.
    let process = Process::new(77, None, None);
    assert_eq!(process.rlimit(RLIMIT_STACK), (8 << 20, u64::MAX));
    assert_eq!(process.rlimit(RLIMIT_NOFILE).0, 1024);
    assert_eq!(process.rlimit(RLIMIT_NICE), (0, 0));
    for which in [RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_RSS, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_RTTIME] {
        assert_eq!(process.rlimit(which), (u64::MAX, u64::MAX), "{which}");
    }
}

#[test]
fn cpu_time_over_the_soft_limit_is_told_once_per_second_and_over_the_hard_one_kills() {
    let mut limits = with_cpu(2, 5);
    assert!(limits.bound_cpu());
    let told: Vec<_> = [0, 1, 2, 2, 3, 4, 4, 5, 6].map(|used| limits.cpu_exceeded(used)).to_vec();
    let (xcpu, kill) = (Some(SIGXCPU), Some(SIGKILL));
    assert_eq!(told, [None, None, xcpu, None, xcpu, xcpu, None, kill, kill]);
}

#[test]
fn without_a_limit_nothing_is_exceeded() {
    assert!(!Limits::default().bound_cpu());
    assert_eq!(Limits::default().cpu_exceeded(u64::MAX - 1), None);
}
