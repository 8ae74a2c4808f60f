use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;

#[test]
fn interrupts_are_off_while_any_lock_is_held_and_then_as_before() {
    let (first, second) = (SpinLock::new(1), SpinLock::new(2));
    assert!(interrupts::are_enabled());
    let one = first.lock();
    assert!(!interrupts::are_enabled());
    let two = second.lock();
    assert_eq!(preempt_count(), 2);
    // Not in the order in which they were taken.
    drop(one);
    assert!(!interrupts::are_enabled());
    drop(two);
    assert_eq!((preempt_count(), interrupts::are_enabled()), (0, true));
}

#[test]
fn who_has_interrupts_off_keeps_them_off() {
    let lock = SpinLock::new(());
    interrupts::disable();
    drop(lock.lock());
    assert!(!interrupts::are_enabled());
    interrupts::enable();
    drop(lock.lock());
    assert!(interrupts::are_enabled());
}

#[test]
fn guards_nest_with_locks() {
    let lock = SpinLock::new(());
    let guard = irqs_off();
    let locked = lock.lock();
    drop(guard);
    assert_eq!((preempt_count(), interrupts::are_enabled()), (1, false));
    drop(locked);
    assert_eq!((preempt_count(), interrupts::are_enabled()), (0, true));
}

#[test]
fn a_lock_that_is_taken_is_not_tried_and_nothing_is_counted() {
    let lock = SpinLock::new(());
    let guard = lock.lock();
    assert!(lock.try_lock().is_none() && lock.is_locked());
    assert_eq!(preempt_count(), 1);
    drop(guard);
    assert!(!lock.is_locked());
    assert!(lock.try_lock().is_some());
    assert!(interrupts::are_enabled());
}

#[test]
fn one_thread_at_a_time_has_the_lock() {
    let lock = Arc::new(SpinLock::new((0u64, 0u64)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let lock = lock.clone();
            thread::spawn(move || {
                for _ in 0..2000 {
                    let mut pair = lock.lock();
                    // Two writes that another would see apart.
                    pair.0 += 1;
                    assert_eq!(pair.0, pair.1 + 1);
                    pair.1 += 1;
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(*lock.lock(), (8000, 8000));
}

#[test]
fn a_value_is_made_once_by_whoever_comes_first() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static VALUE: Once<usize> = Once::new();
    assert!(VALUE.get().is_none());
    let make = || {
        MADE.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
        42
    };
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(move || *VALUE.call_once(make))).collect();
    assert!(threads.into_iter().all(|thread| thread.join().is_ok_and(|value| value == 42)));
    assert_eq!((MADE.load(Ordering::Relaxed), VALUE.get()), (1, Some(&42)));
}
