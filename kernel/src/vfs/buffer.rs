//! Where the bytes of a read go and the bytes of a write come from: lists of memory segments, the user's or the
//! kernel's own, so that one file operation serves `read`, `readv`, `sendfile` and the kernel's own reads alike.

use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::memory::{c_long, user};

/// Bytes in a page.
const PAGE_SIZE: usize = crate::memory::PAGE_SIZE as usize;
/// The most bytes one read or write moves (Linux's `MAX_RW_COUNT`: the largest page-aligned int).
pub const MAX_TRANSFER: usize = 0x7fff_f000;

/// The most segments in one vectored call (`IOV_MAX`).
const MAX_SEGMENTS: u64 = 1024;

#[derive(Clone, Copy)]
struct Segment {
    base: u64,
    len: usize,
}

/// A position in a list of segments.
struct Cursor {
    current: Segment,
    /// Segments after `current`, last first.
    rest: Vec<Segment>,
    remaining: usize,
    done: usize,
    in_kernel: bool,
}

impl Cursor {
    fn one(base: u64, len: usize, in_kernel: bool) -> Self {
        let len = len.min(MAX_TRANSFER);
        Cursor { current: Segment { base, len }, rest: Vec::new(), remaining: len, done: 0, in_kernel }
    }

    /// Reads `count` `struct iovec` from the user at `vector`.
    fn from_vector(vector: u64, count: u64) -> Result<Self> {
        if count > MAX_SEGMENTS {
            return Err(Errno::EINVAL);
        }
        let width = Width::of_call();
        let mut rest = Vec::with_capacity(count as usize);
        let mut total = 0usize;
        for index in 0..count {
            let [base, len] = c_long::read_unsigned(vector + index * 2 * width.word() as u64)?;
            if (len as i64) < 0 || width == Width::Bits32 && (len as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            let len = (len as usize).min(MAX_TRANSFER - total);
            total += len;
            rest.push(Segment { base, len });
        }
        rest.reverse();
        let current = rest.pop().unwrap_or(Segment { base: 0, len: 0 });
        Ok(Cursor { current, rest, remaining: total, done: 0, in_kernel: false })
    }

    /// Calls `copy(address, offset, len)` for each piece of the next `len` bytes.
    fn advance(&mut self, len: usize, mut copy: impl FnMut(u64, usize, usize) -> Result<()>) -> Result<()> {
        debug_assert!(len <= self.remaining);
        let mut offset = 0;
        while offset < len {
            if self.current.len == 0 {
                match self.rest.pop() {
                    Some(next) => self.current = next,
                    None => break,
                }
                continue;
            }
            let piece = self.current.len.min(len - offset);
            copy(self.current.base, offset, piece)?;
            // What is skipped may lie anywhere.
            self.current.base = self.current.base.wrapping_add(piece as u64);
            self.current.len -= piece;
            self.remaining -= piece;
            self.done += piece;
            offset += piece;
        }
        Ok(())
    }
}

macro_rules! common_part {
    () => {
        /// Bytes that are still to be moved.
        pub fn remaining(&self) -> usize {
            self.0.remaining
        }

        /// Bytes moved so far.
        pub fn done(&self) -> usize {
            self.0.done
        }

        /// Bytes from here to the end of the page of user memory: what can still be moved where the next page faults.
        pub fn to_page_end(&self) -> usize {
            let left = PAGE_SIZE - self.0.current.base as usize % PAGE_SIZE;
            if self.0.in_kernel { self.0.remaining } else { left.min(self.0.current.len) }
        }

        /// What the system call returns: the bytes moved if there are any, even where an error ended the transfer.
        pub fn finish(&self, result: Result<()>) -> Result<usize> {
            match result {
                Err(error) if self.0.done == 0 => Err(error),
                _ => Ok(self.0.done),
            }
        }
    };
}

/// Where the bytes of a read go.
pub struct Destination<'a>(Cursor, PhantomData<&'a mut [u8]>);

impl<'a> Destination<'a> {
    /// One range of user memory.
    pub fn user(address: u64, len: u64) -> Self {
        Destination(Cursor::one(address, len.min(MAX_TRANSFER as u64) as usize, false), PhantomData)
    }

    /// The ranges of a user's `iovec` array.
    pub fn user_vector(vector: u64, count: u64) -> Result<Self> {
        Ok(Destination(Cursor::from_vector(vector, count)?, PhantomData))
    }

    /// A buffer of the kernel's own.
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        Destination(Cursor::one(buffer.as_mut_ptr() as u64, buffer.len(), true), PhantomData)
    }

    common_part!();

    /// Appends `bytes`, which must not be more than [`Self::remaining`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        // SAFETY: the slice is readable for its length.
        unsafe { self.put_raw(bytes.as_ptr(), bytes.len()) }
    }

    /// Appends `len` bytes at `source`.
    ///
    /// # Safety
    /// `source` must be readable kernel memory of `len` bytes. Others may write to it meanwhile (a page of a file
    /// that is mapped): the copy is then a mixture.
    pub unsafe fn put_raw(&mut self, source: *const u8, len: usize) -> Result<()> {
        let in_kernel = self.0.in_kernel;
        self.0.advance(len, |address, offset, piece| {
            // SAFETY: `offset + piece <= len`, and the caller vouches for `len` bytes at `source`.
            let source = unsafe { source.add(offset) };
            if in_kernel {
                // SAFETY: a kernel cursor is made from an exclusive borrow that lives as long as `self`.
                unsafe { core::ptr::copy(source, address as *mut u8, piece) };
                Ok(())
            } else {
                // SAFETY: the caller vouches for the source.
                unsafe { user::copy_to_user(address, source, piece) }
            }
        })
    }

    /// Appends `len` zero bytes.
    pub fn put_zeros(&mut self, len: usize) -> Result<()> {
        let in_kernel = self.0.in_kernel;
        self.0.advance(len, |address, _, piece| {
            if in_kernel {
                // SAFETY: as in `put_raw`.
                unsafe { core::ptr::write_bytes(address as *mut u8, 0, piece) };
                Ok(())
            } else {
                user::clear(address, piece)
            }
        })
    }

    /// Appends the part of `text` from `position` on, and moves `position`: the read of a generated file.
    pub fn put_from(&mut self, text: &[u8], position: &mut u64) -> Result<usize> {
        let start = (*position).min(text.len() as u64) as usize;
        let len = (text.len() - start).min(self.remaining());
        self.put(&text[start..start + len])?;
        *position += len as u64;
        Ok(len)
    }
}

/// Where the bytes of a write come from.
pub struct Source<'a>(Cursor, PhantomData<&'a [u8]>);

impl<'a> Source<'a> {
    /// One range of user memory.
    pub fn user(address: u64, len: u64) -> Self {
        Source(Cursor::one(address, len.min(MAX_TRANSFER as u64) as usize, false), PhantomData)
    }

    /// The ranges of a user's `iovec` array.
    pub fn user_vector(vector: u64, count: u64) -> Result<Self> {
        Ok(Source(Cursor::from_vector(vector, count)?, PhantomData))
    }

    /// Bytes of the kernel's own.
    pub fn kernel(bytes: &'a [u8]) -> Self {
        Source(Cursor::one(bytes.as_ptr() as u64, bytes.len(), true), PhantomData)
    }

    common_part!();

    /// Leaves off what is beyond the next `len` bytes.
    pub fn limit(&mut self, len: usize) {
        self.0.remaining = self.0.remaining.min(len);
    }

    /// Takes the next `buffer.len()` bytes, which must not be more than [`Self::remaining`].
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<()> {
        // SAFETY: the slice is writable for its length.
        unsafe { self.take_raw(buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Takes the next `len` bytes to `target`.
    ///
    /// # Safety
    /// `target` must be writable kernel memory of `len` bytes, and not borrowed. Others may read it meanwhile.
    pub unsafe fn take_raw(&mut self, target: *mut u8, len: usize) -> Result<()> {
        let in_kernel = self.0.in_kernel;
        self.0.advance(len, |address, offset, piece| {
            // SAFETY: `offset + piece <= len`, and the caller vouches for `len` bytes at `target`.
            let target = unsafe { target.add(offset) };
            if in_kernel {
                // SAFETY: a kernel cursor is made from a borrow that lives as long as `self`.
                unsafe { core::ptr::copy(address as *const u8, target, piece) };
                Ok(())
            } else {
                // SAFETY: the caller vouches for the target.
                unsafe { user::copy_from_user(target, address, piece) }
            }
        })
    }

    /// Takes all that remains, or as much as fits, as a small value (for command texts).
    pub fn take_all(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = alloc::vec![0; self.remaining().min(limit)];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    /// Skips `len` bytes.
    pub fn skip(&mut self, len: usize) {
        let _ = self.0.advance(len, |_, _, _| Ok(()));
    }
}

#[cfg(test)]
mod tests;
