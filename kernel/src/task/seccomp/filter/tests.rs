use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// `BPF_RET | BPF_K`.
const RETURN: u64 = 6;
/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u64 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const EQUAL: u64 = 0x15;

fn instruction(code: u64, jump_true: u64, jump_false: u64, k: u32) -> Instruction {
    Instruction::from_raw(code | jump_true << 16 | jump_false << 24 | u64::from(k) << 32)
}

/// Says this of all calls.
fn always(verdict: u32) -> Vec<Instruction> {
    vec![instruction(RETURN, 0, 0, verdict)]
}

/// Says `one` of the calls with a number, and `other` of the others.
fn by_number(number: u32, one: u32, other: u32) -> Vec<Instruction> {
    vec![
        instruction(LOAD, 0, 0, 0),
        instruction(EQUAL, 0, 1, number),
        instruction(RETURN, 0, 0, one),
        instruction(RETURN, 0, 0, other),
    ]
}

fn chain(programs: &[Vec<Instruction>]) -> Arc<Filter> {
    let mut newest = None;
    for program in programs {
        assert!(bpf::check(program));
        newest = Some(Arc::new(Filter::new(program.clone(), newest).expect("a short chain")));
    }
    newest.expect("a program")
}

fn data(number: i32) -> Data {
    Data { number, arch: AUDIT_ARCH_X86_64, instruction_pointer: 0x40_1000, args: [1, 2, 3, 4, 5, 6] }
}

#[test]
fn the_most_severe_action_wins_in_the_order_of_seccomp_2() {
    let order = [
        action::KILL_PROCESS,
        action::KILL_THREAD,
        action::TRAP,
        action::ERRNO | 7,
        action::USER_NOTIF,
        action::TRACE,
        action::LOG,
        action::ALLOW,
    ];
    for (n, &severe) in order.iter().enumerate() {
        for &mild in &order[n + 1..] {
            for programs in [[always(severe), always(mild)], [always(mild), always(severe)]] {
                assert_eq!(chain(&programs).judge(&data(1)).0, severe, "{severe:#x} {mild:#x}");
            }
        }
    }
}

#[test]
fn of_equals_the_newest_filter_speaks() {
    let filter = chain(&[always(action::ERRNO | 1), always(action::ERRNO | 2)]);
    let (verdict, from) = filter.judge(&data(1));
    assert_eq!(verdict, action::ERRNO | 2);
    assert!(from.is_some_and(|from| core::ptr::eq(from, &*filter)));
    let old = chain(&[always(action::TRAP), always(action::ALLOW)]);
    assert!(old.judge(&data(1)).1.is_some_and(|from| core::ptr::eq(from, &*old.previous.clone().expect("two"))));
    assert!(chain(&[always(action::ALLOW)]).judge(&data(1)).1.is_none());
}

#[test]
fn a_filter_sees_the_words_of_the_call() {
    let word = |at: u32| {
        // LD ABS at; RET A.
        let filter = chain(&[vec![instruction(LOAD, 0, 0, at), instruction(0x16, 0, 0, 0)]]);
        let (verdict, _) = filter.judge(&Data { args: [0x8000_0001_8000_0002; 6], ..data(0x8000_0003u32 as i32) });
        verdict
    };
    // struct seccomp_data: number, architecture, instruction pointer, six arguments, the low half first.
    assert_eq!((word(0), word(16), word(20)), (0x8000_0003, 0x8000_0002, 0x8000_0001));
}

#[test]
fn a_chain_has_32768_instructions_at_most() {
    // kernel/seccomp.c, MAX_INSNS_PER_PATH: each filter before counts four more.
    let mut longest = always(action::ALLOW);
    longest.resize(4096, instruction(RETURN, 0, 0, action::ALLOW));
    let mut newest: Option<Arc<Filter>> = None;
    for n in 0..7 {
        newest = Some(Arc::new(Filter::new(longest.clone(), newest).unwrap_or_else(|| panic!("filter {n}"))));
    }
    let left = 32768 - 7 * (4096 + 4);
    longest.truncate(left + 1);
    assert!(Filter::new(longest.clone(), newest.clone()).is_none());
    longest.truncate(left);
    assert!(Filter::new(longest, newest).is_some());
}

#[test]
fn a_long_chain_is_dropped_without_a_deep_stack() {
    let mut newest = None;
    for _ in 0..6000 {
        newest = Some(Arc::new(Filter::new(always(action::ALLOW), newest).expect("short programs")));
    }
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || drop(newest))
        .expect("a thread")
        .join()
        .expect("no overflow");
}

#[test]
fn a_filter_is_orphaned_when_its_last_task_is_gone() {
    let old = Arc::new(Filter::new(always(action::ALLOW), None).expect("short"));
    let parent = Attached::new(old.clone());
    let child = parent.clone();
    let newer = Attached::new(Arc::new(Filter::new(always(action::LOG), Some(old.clone())).expect("short")));
    drop(parent);
    drop(child);
    assert!(!old.is_orphaned(), "a filter follows it");
    drop(newer);
    assert!(old.is_orphaned());
}

proptest! {
    /// What is known of a call without running programs is what they say, whatever its arguments.
    #[test]
    fn the_short_cut_says_what_the_filters_say(
        rules in vec((0u32..8, any::<bool>(), any::<bool>()), 1..4), number in 0i32..10, args: [u64; 6]
    ) {
        let programs: Vec<_> = rules.iter().map(|&(number, one, other)| {
            let verdict = |allowed| if allowed { action::ALLOW } else { action::ERRNO | 1 };
            by_number(number, verdict(one), verdict(other))
        }).collect();
        let filter = chain(&programs);
        let (verdict, _) = filter.judge(&Data { args, ..data(number) });
        prop_assert_eq!(filter.allows(number, AUDIT_ARCH_X86_64), verdict == action::ALLOW);
        let expected = rules.iter().all(|&(n, one, other)| if n == number as u32 { one } else { other });
        prop_assert_eq!(verdict == action::ALLOW, expected);
        prop_assert!(!filter.allows(-1, AUDIT_ARCH_X86_64) && !filter.allows(512, AUDIT_ARCH_X86_64));
    }
}
