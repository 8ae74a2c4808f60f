//! `eventfd`: a counter that readers wait for.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::sched::wait::{PollTable, WaitQueue};
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};

/// The largest value the counter can have.
const MAXIMUM: u64 = u64::MAX - 1;

struct EventFd {
    count: SpinLock<u64>,
    /// A read takes one and not all (`EFD_SEMAPHORE`).
    semaphore: bool,
    changed: WaitQueue,
}

impl EventFd {
    fn wait<T>(&self, file: &File, mut attempt: impl FnMut(&mut u64) -> Option<T>) -> Result<T> {
        if file.is_nonblocking() {
            return attempt(&mut self.count.lock()).ok_or(Errno::EAGAIN);
        }
        self.changed.wait_until(|| attempt(&mut self.count.lock()))
    }
}

impl FileOps for EventFd {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = self.wait(file, |count| match *count {
            0 => None,
            _ if self.semaphore => {
                *count -= 1;
                Some(1)
            }
            all => {
                *count = 0;
                Some(all)
            }
        })?;
        self.changed.wake_all();
        to.put(&value.to_ne_bytes())?;
        Ok(8)
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        if from.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        from.take(&mut bytes)?;
        let value = u64::from_ne_bytes(bytes);
        if value > MAXIMUM {
            return Err(Errno::EINVAL);
        }
        self.wait(file, |count| (MAXIMUM - *count >= value).then(|| *count += value))?;
        self.changed.wake_all();
        Ok(8)
    }

    fn describe(&self, _file: &File, out: &mut String) {
        let _ = writeln!(out, "eventfd-count: {:16x}", *self.count.lock());
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            self.changed.register(table);
        }
        let count = *self.count.lock();
        let mut events = 0;
        if count > 0 {
            events |= abi::POLLIN | abi::POLLRDNORM;
        }
        if count < MAXIMUM {
            events |= abi::POLLOUT | abi::POLLWRNORM;
        }
        events
    }
}

/// An open eventfd with this count. `semaphore`: a read takes one and not all (EFD_SEMAPHORE). `flags`: EFD_NONBLOCK or 0.
pub fn new_eventfd(count: u64, semaphore: bool, flags: u32) -> Arc<File> {
    let ops = EventFd { count: SpinLock::new(count), semaphore, changed: WaitQueue::new() };
    anonymous_file("eventfd", Arc::new(ops), abi::O_RDWR | flags)
}

#[cfg(test)]
mod tests;
