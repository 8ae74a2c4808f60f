//! One CPU's view of its context word. What others see while it changes is `tests/loom.rs`'s.
#![allow(unsafe_code, reason = "the words are the tests' own")]

use super::*;

const CONTEXTS: [Context; 4] = [Context::Kernel, Context::Idle, Context::Guest, Context::User];

fn word_in(context: Context, is_tracked: bool) -> ContextWord {
    let word = ContextWord::new();
    // SAFETY: nobody else knows the word.
    unsafe {
        if is_tracked {
            word.track();
        }
        assert!(word.move_to(Context::Kernel, context));
    }
    word
}

#[test]
fn a_transition_says_whether_it_started_where_it_assumed_and_ends_where_it_should() {
    for is_tracked in [false, true] {
        for found in CONTEXTS {
            for from in CONTEXTS {
                for to in CONTEXTS {
                    let word = word_in(found, is_tracked);
                    assert_eq!(word.context(), found);
                    // SAFETY: nobody else knows the word.
                    let started_there = unsafe { word.move_to(from, to) };
                    assert_eq!((started_there, word.context()), (from == found, to), "{found:?}, {from:?} to {to:?}");
                    assert_eq!(word.is_tracked(), is_tracked);
                }
            }
        }
    }
}

#[test]
fn a_transition_counts_one() {
    for from in CONTEXTS {
        for to in CONTEXTS {
            let count = TRACKED | 41;
            let word = ((from as u64) << STATE_SHIFT) + count;
            let moved = word.wrapping_add(delta(from, to));
            assert_eq!((state(moved), moved & !(3 << STATE_SHIFT)), (to, count + 1), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn no_kernel_code_runs_in_the_quiescent_contexts() {
    assert_eq!(CONTEXTS.map(Context::is_quiescent), [false, true, true, true]);
}

#[test]
fn an_interrupt_restores_what_it_found() {
    for found in CONTEXTS {
        let word = word_in(found, true);
        // SAFETY: nobody else knows the word.
        unsafe {
            assert_eq!(word.interrupt(), found);
            assert_eq!(word.context(), Context::Kernel);
            word.restore(found);
        }
        assert_eq!(word.context(), found);
    }
}

#[test]
fn idle_and_guests_are_quiescent_and_user_mode_where_it_is_tracked() {
    for is_tracked in [false, true] {
        for context in CONTEXTS {
            let word = word_in(context, is_tracked);
            let is_quiescent = match context {
                Context::Kernel => false,
                Context::User => is_tracked,
                Context::Idle | Context::Guest => true,
            };
            assert_eq!(word.quiescent_since(word.snapshot()), is_quiescent, "{context:?}, tracked: {is_tracked}");
        }
    }
}

#[test]
fn what_came_and_went_counts_where_it_is_tracked() {
    for is_tracked in [false, true] {
        for between in [Context::Idle, Context::User] {
            let word = word_in(Context::Kernel, is_tracked);
            let before = word.snapshot();
            assert!(!word.quiescent_since(before));
            // SAFETY: nobody else knows the word.
            unsafe {
                word.move_to(Context::Kernel, between);
                assert_eq!(word.quiescent_since(before), is_tracked || between == Context::Idle);
                word.move_to(between, Context::Kernel);
            }
            assert_eq!(word.quiescent_since(before), is_tracked, "{between:?}");
        }
    }
}

#[test]
fn a_snapshot_from_before_the_word_was_tracked_trusts_no_user_mode() {
    let word = word_in(Context::User, false);
    let before = word.snapshot();
    // SAFETY: nobody else knows the word.
    unsafe { word.track() };
    assert!(!word.quiescent_since(before), "it was in user mode without barriers");
    assert!(word.quiescent_since(word.snapshot()));
}
