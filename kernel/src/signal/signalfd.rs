//! `signalfd`: pending signals read from a descriptor.

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;
use core::mem::size_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::sched::wait::PollTable;
use crate::signal::info32::Layout;
use crate::signal::readers::{OPEN, READERS, notify};
use crate::signal::take::take_pending;
use crate::task::current;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::*;
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::buffer::Destination;
use crate::vfs::file::{File, FileOps};

struct SignalFd {
    /// The signals it takes.
    mask: AtomicU64,
}

/// `struct signalfd_siginfo`.
#[derive(Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Record {
    signo: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: i32,
    timer: u32,
    band: u32,
    overrun: u32,
    trapno: u32,
    status: i32,
    int: i32,
    value: u64,
    utime: u64,
    stime: u64,
    address: u64,
    address_lsb: u16,
    padding: u16,
    syscall: i32,
    call_address: u64,
    arch: u32,
    rest: [u32; 7],
}
const _: () = assert!(size_of::<Record>() == 128);

impl Record {
    fn new(info: &SigInfo) -> Record {
        let [first, second, third, fourth] = info.words();
        let (low, high) = (first as u32, (first >> 32) as u32);
        let common = Record { signo: info.signo as u32, errno: info.errno, code: info.code, ..Record::default() };
        // As Linux's signalfd_copyinfo.
        match Layout::of(info.signo, info.code) {
            Layout::Kill => Record { pid: low, uid: high, ..common },
            Layout::Timer => Record { timer: low, overrun: high, int: second as i32, value: second, ..common },
            Layout::Queued => Record { pid: low, uid: high, int: second as i32, value: second, ..common },
            Layout::Fault => Record { address: first, ..common },
            Layout::Child => {
                Record { pid: low, uid: high, status: second as i32, utime: third, stime: fourth, ..common }
            }
            Layout::Poll => Record { band: low, fd: second as i32, ..common },
            Layout::System => {
                Record { call_address: first, syscall: second as i32, arch: (second >> 32) as u32, ..common }
            }
        }
    }
}

impl SignalFd {
    fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Relaxed))
    }

    /// Takes a signal that is pending for the reader, whoever made the descriptor.
    fn take(&self) -> Option<SigInfo> {
        take_pending(self.mask())
    }
}

impl FileOps for SignalFd {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        if to.remaining() < size_of::<Record>() {
            return Err(Errno::EINVAL);
        }
        let mut next = match self.take() {
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => Some(READERS.wait_until(|| self.take())?),
            some => some,
        };
        while let Some(info) = next {
            let result = to.put(Record::new(&info).as_bytes());
            if result.is_err() || to.remaining() < size_of::<Record>() {
                return to.finish(result);
            }
            next = self.take();
        }
        to.finish(Ok(()))
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            READERS.register(table);
        }
        let task = current();
        let pending = {
            let shared = task.process.signals.lock();
            shared.pending().union(task.signals.lock().pending())
        };
        if pending.intersection(self.mask()).is_empty() { 0 } else { abi::POLLIN | abi::POLLRDNORM }
    }

    fn describe(&self, _file: &File, out: &mut String) {
        let _ = writeln!(out, "sigmask:\t{:016x}", self.mask().0);
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

/// An open signalfd that takes these signals. `flags`: O_NONBLOCK or 0.
pub fn new_signalfd(mask: SigSet, flags: u32) -> Arc<File> {
    OPEN.fetch_add(1, Relaxed);
    let ops = SignalFd { mask: AtomicU64::new(mask.0) };
    anonymous_file("signalfd", Arc::new(ops), abi::O_RDWR | flags)
}

/// Changes the signals that an open signalfd takes; EINVAL for any other file.
pub fn set_mask(file: &File, mask: SigSet) -> Result<()> {
    let signalfd = file.ops().as_any().and_then(|ops| ops.downcast_ref::<SignalFd>()).ok_or(Errno::EINVAL)?;
    signalfd.mask.store(mask.0, Relaxed);
    // What it takes from now on may be pending already.
    notify();
    Ok(())
}

#[cfg(test)]
mod tests;
