//! Waiting for one of several words.

use alloc::vec::Vec;

use crate::errno::Result;
use crate::life::futex::deadline::{Alarm, Deadline};
use crate::life::futex::key::Key;
use crate::life::futex::queue;
use crate::life::futex::queue::{Role, Waiter};
use crate::life::futex::wait::{enter, sleep};
use crate::memory::access::Access;

/// A word that is waited for.
pub struct Word {
    pub address: u64,
    /// What it must hold for the wait to begin.
    pub expected: u32,
    /// Whether only threads of this process wake it (FUTEX_PRIVATE_FLAG).
    pub private: bool,
}

impl Word {
    fn waiter(&self) -> Result<Waiter> {
        let key = Key::new(self.address, self.private, Access::Read)?;
        Ok(Waiter::new(key, Role::Wake, u32::MAX))
    }
}

/// Waits until one of the words is woken, and returns its index.
pub fn wait(words: &[Word], deadline: Deadline) -> Result<usize> {
    let mut alarm = Alarm::new(deadline);
    loop {
        let waiters = words.iter().map(Word::waiter).collect::<Result<Vec<Waiter>>>()?;
        let entered = Entered { waiters: &waiters, count: 0 };
        if let Some(index) = entered.wait(words, &mut alarm)? {
            return Ok(index);
        }
    }
}

/// Waiters, the first `count` of which are in their queues.
struct Entered<'a> {
    waiters: &'a [Waiter],
    count: usize,
}

impl Entered<'_> {
    /// Enters all queues and sleeps. `None`: a word could not be read, but can be now.
    fn wait(mut self, words: &[Word], alarm: &mut Alarm) -> Result<Option<usize>> {
        let mut result = Ok(Some(()));
        while let (Some(waiter), Some(word)) = (self.waiters.get(self.count), words.get(self.count)) {
            // SAFETY: the waiters are in a vector that does not change, and are taken out in `leave`.
            result = unsafe { enter(waiter, word.address, word.expected) };
            if result != Ok(Some(())) {
                break;
            }
            self.count += 1;
        }
        let slept = match result {
            Ok(Some(())) => sleep(self.waiters, alarm).map(Some),
            other => other,
        };
        // Whatever else happened, a wake-up that somebody counts on is what is reported.
        match self.leave() {
            Some(index) => Ok(Some(index)),
            None => slept.map(|_| None),
        }
    }

    /// Leaves all queues. Returns the last word that was woken.
    fn leave(self) -> Option<usize> {
        let mut woken = None;
        for (index, waiter) in self.waiters.iter().take(self.count).enumerate() {
            let mut list = queue::lock_of(waiter);
            if waiter.is_released() {
                woken = Some(index);
            } else {
                // SAFETY: it is in the list.
                unsafe { list.remove(waiter) };
            }
        }
        woken
    }
}
