//! Futexes: sleeping on a word of user memory.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know which words are the same futex | [`key`] |
//! | follow a waiter into a list and out of it | [`queue`] |
//! | wait, wake, move waiters | [`wait`], [`waitv`], [`wake()`], [`requeue`] |
//! | know who owns a lock that others wait for | [`pi`]: the state; [`lock`], [`requeue_pi`]: the operations |
//!
//! A word is read, compared and changed with the lock of its queue held. So a waiter that enters the queue has seen the
//! word's value, and whoever changes the word and wakes finds the waiter.

pub mod deadline;
mod key;
pub mod lock;
pub mod pi;
mod queue;
pub mod requeue;
pub mod requeue_pi;
pub mod wait;
pub mod waitv;
pub mod wake;
mod word;

/// Wakes up to `count` waiters of a word, as FUTEX_WAKE does without FUTEX_PRIVATE_FLAG. For the kernel itself.
pub fn wake(address: u64, count: i32) {
    // There is nobody to tell of an error.
    let _ = crate::life::futex::wake::wake(address, false, count, u32::MAX);
}
