//! The strings that a program is started with, and how many there may be.

use alloc::vec::Vec;

use linux_raw_sys::general::RLIMIT_STACK;

use crate::errno::{Errno, Result};
use crate::memory::{PAGE_SIZE, Width, frames, page_down, user};
use crate::task::current;

/// The longest string, with its NUL (MAX_ARG_STRLEN).
const MAX_STRING: usize = 32 * PAGE_SIZE as usize;
/// What is allowed however small the stack may be (ARG_MAX), and however large (three quarters of 8 MiB).
const LIMITS: (u64, u64) = (128 << 10, 6 << 20);

/// Strings, each NUL-terminated, one after the other.
#[derive(Clone, Default)]
pub struct Strings {
    /// All of them.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: usize,
}

impl Strings {
    /// Adds a string.
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
    }

    /// Reads a NULL-terminated array of pointers to strings; the pointers are as wide as the call. A null array counts as
    /// an empty one, as in Linux.
    pub fn from_user(array: u64) -> Result<Self> {
        let limit = limit();
        let mut strings = Strings::default();
        if array == 0 {
            return Ok(strings);
        }
        let word = Width::of_call().word() as u64;
        loop {
            let at = array.wrapping_add(word * strings.count as u64);
            let pointer: u64 = match word {
                4 => user::read::<u32>(at)?.into(),
                _ => user::read(at)?,
            };
            if pointer == 0 {
                return Ok(strings);
            }
            let string = user::read_cstr(pointer, MAX_STRING).map_err(|error| match error {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                error => error,
            })?;
            frames::require_spare()?;
            strings.push(&string);
            if strings.bytes.len() + pointers(strings.count) > limit {
                return Err(Errno::E2BIG);
            }
        }
    }

    /// Puts `first` in place of the first string: a script's interpreter, its argument, the script.
    pub fn replace_first(&mut self, first: &[&[u8]]) {
        let old = core::mem::take(self);
        let end = old.bytes.iter().position(|&byte| byte == 0).map_or(0, |at| at + 1);
        first.iter().for_each(|string| self.push(string));
        self.bytes.extend_from_slice(&old.bytes[end..]);
        self.count += old.count.saturating_sub(1);
    }
}

/// What the pointers to `count` strings take, however wide the program's are.
fn pointers(count: usize) -> usize {
    count * size_of::<u64>()
}

/// A quarter of the stack limit, within limits of its own.
fn limit() -> usize {
    let quarter = current().process.rlimit(RLIMIT_STACK).0 / 4;
    quarter.clamp(LIMITS.0, LIMITS.1) as usize
}

/// How many bytes of strings a program may be started with that has so many of them.
pub fn room_for_bytes(count: usize) -> Result<usize> {
    let room = limit().saturating_sub(pointers(count));
    if room == 0 {
        return Err(Errno::E2BIG);
    }
    // They also have to fit on the stack, in whole pages, below a word.
    let stack = page_down(current().process.rlimit(RLIMIT_STACK).0);
    Ok(room.min(stack.saturating_sub(size_of::<u64>() as u64) as usize))
}

#[cfg(test)]
mod tests;
