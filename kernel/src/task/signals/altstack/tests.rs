use proptest::prelude::*;

use super::*;

const STACK: AltStack = AltStack::of(0x10000, 0, 0x4000);

#[test]
fn the_top_is_on_an_empty_stack_and_the_bottom_is_an_overflow() {
    assert!(STACK.contains(0x14000) && STACK.contains(0x10001));
    assert!(!STACK.contains(0x10000) && !STACK.contains(0x14001));
    assert!(!AltStack::NONE.contains(0));
}

#[test]
fn sigaltstack_2_says_what_is_refused() {
    let set = |new: AltStack, sp| STACK.replaced_by(new, sp);
    assert_eq!(set(AltStack::of(0x20000, 0, 4096), 0x12000), Err(Errno::EPERM), "it is in use");
    assert_eq!(set(AltStack::of(0x20000, 4, 4096), 0), Err(Errno::EINVAL), "an unknown flag");
    assert_eq!(set(AltStack::of(0x20000, 0, MINSIGSTKSZ - 1), 0), Err(Errno::ENOMEM));
    assert_eq!(set(AltStack::of(0x20000, 0, MINSIGSTKSZ), 0), Ok(AltStack::of(0x20000, 0, MINSIGSTKSZ)));
    assert_eq!(set(AltStack::of(0x20000, SS_DISABLE, 1), 0).map(|stack| stack.size), Ok(0));
    assert!(set(AltStack::of(0x20000, SS_ONSTACK, 4096), 0).is_ok(), "Linux takes it");
    let small = AltStack::of(0x10000, 0, 100);
    assert_eq!(small.replaced_by(small, 0), Ok(small), "no change is none");
}

#[test]
fn what_is_shown_depends_on_where_the_task_runs() {
    assert_eq!(STACK.seen_from(0x12000).flags, SS_ONSTACK);
    assert_eq!(STACK.seen_from(0x20000).flags, 0);
    assert_eq!(AltStack::NONE.seen_from(0x20000).flags, SS_DISABLE);
    let auto = AltStack { flags: SS_AUTODISARM, ..STACK };
    assert_eq!(auto.seen_from(0x12000).flags, SS_AUTODISARM, "a handler has disarmed it");
    assert!(!auto.is_in_use(0x12000) && auto.is_available(0x12000));
    assert!(!STACK.is_available(0x12000) && STACK.is_available(0x20000) && !AltStack::NONE.is_available(0));
}

proptest! {
    #[test]
    fn containment_is_an_interval(sp: u64, start in 0u64..1 << 47, size in 0u64..1 << 40) {
        let stack = AltStack::of(start, 0, size);
        prop_assert_eq!(stack.contains(sp), sp > start && sp <= start + size);
    }
}
