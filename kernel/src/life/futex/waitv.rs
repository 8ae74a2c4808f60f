//! futex_waitv(2): waiting for one of several words.

use alloc::vec::Vec;

use linux_raw_sys::general::{CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_PRIVATE_FLAG};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::life::futex::deadline::{Alarm, Deadline};
use crate::life::futex::key::Key;
use crate::life::futex::queue;
use crate::life::futex::queue::{Role, Waiter};
use crate::life::futex::wait::{enter, sleep};
use crate::memory::access::Access;
use crate::memory::{Width, frames, user};
use crate::task::clock::Timespec;

/// Most words of one call (FUTEX_WAITV_MAX).
const MAX_WORDS: usize = 128;
/// FUTEX_32: the word has 32 bits. No other size is supported.
const SIZE_32: u32 = 2;

/// `struct futex_waitv`: the same in both widths.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Word {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

impl Word {
    fn read(address: u64) -> Result<Word> {
        let word: Word = user::read(address)?;
        let known = word.flags & !(SIZE_32 | FUTEX_PRIVATE_FLAG) == 0;
        if !known || word.flags & SIZE_32 == 0 || word.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(word)
    }

    fn waiter(&self) -> Result<Waiter> {
        let private = self.flags & FUTEX_PRIVATE_FLAG != 0;
        let key = Key::new(self.address, private, Access::Read)?;
        Ok(Waiter::new(key, Role::Wake, u32::MAX))
    }
}

/// futex_waitv(2): returns the index of a word that was woken.
pub fn sys_futex_waitv(words: u64, count: u64, flags: u64, timeout: u64, clock: u64) -> Result<usize> {
    let count = count as u32 as usize;
    if flags as u32 != 0 || !(1..=MAX_WORDS).contains(&count) || words == 0 {
        return Err(Errno::EINVAL);
    }
    let mut deadline = Deadline::Never;
    if timeout != 0 {
        let clock = clock as u32;
        if clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC {
            return Err(Errno::EINVAL);
        }
        let at = Timespec::read(Width::Bits64, timeout)?.to_ns()?;
        deadline = if clock == CLOCK_REALTIME { Deadline::Realtime(at) } else { Deadline::Monotonic(at) };
    }
    frames::require_spare()?;
    let words = (0..count as u64)
        .map(|n| {
            let address = words.checked_add(n * size_of::<Word>() as u64);
            Word::read(address.ok_or(Errno::EFAULT)?)
        })
        .collect::<Result<Vec<Word>>>()?;
    wait(&words, deadline)
}

fn wait(words: &[Word], deadline: Deadline) -> Result<usize> {
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
            result = unsafe { enter(waiter, word.address, word.value as u32) };
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
