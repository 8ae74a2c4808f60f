//! `poll` and `select`: waiting for several files at once.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::width::Width;
use crate::memory::{c_long, frames, user};
use crate::sched::wait::{FOREVER, PollTable, deadline_after};
use crate::signal::mask::{no_restart_with_handler, with_mask};
use crate::task::current;
use crate::task::personality::Personality;
use crate::task::restart::restart_block::set_restart_fn;
use crate::vfs::fd::descriptor_limit;
use crate::vfs::file::File;

/// Kernel memory that a file takes while it is waited for, at most: its entry, and its places in two queues.
const COST: u64 = 512;

const SECOND: u64 = 1_000_000_000;

/// Calls `scan` until it returns something or the deadline has passed; then what it returned last. In the scan, files
/// are asked with the table it is given, so that a change ends the sleep.
fn wait_for(deadline: u64, mut scan: impl FnMut(Option<&PollTable>) -> usize) -> Result<usize> {
    let ready = scan(None);
    if ready > 0 || deadline <= time::now() {
        return Ok(ready);
    }
    let table = PollTable::new();
    loop {
        let ready = scan(Some(&table));
        if ready > 0 {
            return Ok(ready);
        }
        match table.wait(deadline) {
            Err(Errno::ETIMEDOUT) => return Ok(scan(None)),
            other => other?,
        }
    }
}

/// A call that has found nothing and has a signal to handle is interrupted, whether it has waited or not.
fn or_interrupted(ready: usize) -> Result<usize> {
    if ready == 0 && current().signal_pending() { Err(Errno::ERESTARTSYS) } else { Ok(ready) }
}

/// `struct timespec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timespec {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest: nanoseconds (microseconds in a `struct timeval`).
    pub fraction: i64,
}

impl Timespec {
    fn to_nanoseconds(self, unit: u64) -> Result<u64> {
        let limit = (SECOND / unit) as i64;
        if self.seconds < 0 || !(0..limit).contains(&self.fraction) {
            return Err(Errno::EINVAL);
        }
        Ok((self.seconds as u64).saturating_mul(SECOND).saturating_add(self.fraction as u64 * unit))
    }

    /// This many nanoseconds, with a fraction in `unit`s.
    pub fn from_nanoseconds(nanoseconds: u64, unit: u64) -> Self {
        Timespec { seconds: (nanoseconds / SECOND) as i64, fraction: (nanoseconds % SECOND / unit) as i64 }
    }
}

/// The timeout that a call got by pointer: in `unit`s of nanoseconds below the second. The time that is left is
/// written back when the call ends.
struct Timeout {
    address: u64,
    width: Width,
    unit: u64,
    deadline: u64,
}

impl Timeout {
    fn read(width: Width, address: u64, unit: u64) -> Result<Self> {
        let deadline = match address {
            0 => FOREVER,
            _ => {
                let [seconds, mut fraction] = c_long::read_of(width, address)?;
                if width == Width::Bits64 && current().syscall_info.is_compat() {
                    // Half of the member is padding there.
                    fraction = i64::from(fraction as u32);
                }
                let mut value = Timespec { seconds, fraction };
                if unit != 1 {
                    // select: whole seconds among the microseconds are allowed.
                    let in_second = (SECOND / unit) as i64;
                    value.seconds = value.seconds.saturating_add(value.fraction.div_euclid(in_second));
                    value.fraction = value.fraction.rem_euclid(in_second);
                }
                deadline_after(value.to_nanoseconds(unit)?)
            }
        };
        Ok(Timeout { address, width, unit, deadline })
    }

    /// At the end of a call with this result. The memory may be read-only: the result counts more, but the call cannot be
    /// begun again with what is left.
    fn write_back(&self, result: Result<usize>) -> Result<usize> {
        if self.address == 0 {
            return result;
        }
        let left = self.deadline.saturating_sub(time::now());
        let left = Timespec::from_nanoseconds(left, self.unit);
        let sticky = current().process.has_personality(Personality::STICKY_TIMEOUTS);
        let written = !sticky && c_long::write_of(self.width, self.address, [left.seconds, left.fraction]).is_ok();
        match result {
            Err(Errno::ERESTARTNOHAND) if !written => Err(Errno::EINTR),
            result => result,
        }
    }
}

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

fn poll_until(address: u64, count: u64, deadline: u64) -> Result<usize> {
    let count = u64::from(count as u32);
    if count > descriptor_limit() {
        return Err(Errno::EINVAL);
    }
    frames::require(count * COST)?;
    let mut entries = Vec::new();
    entries.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
    for index in 0..count {
        let entry: PollFd = user::read(address + index * size_of::<PollFd>() as u64)?;
        let file = (entry.fd >= 0).then(|| current().files.get(entry.fd as u64));
        entries.push((entry, file));
    }
    let ready = wait_for(deadline, |table| {
        let mut ready = 0;
        for (entry, file) in &mut entries {
            let events = match file {
                None => 0,
                Some(Err(_)) => abi::POLLNVAL,
                Some(Ok(file)) => {
                    let wanted = entry.events as u32 | abi::POLLERR | abi::POLLHUP;
                    file.poll(table) & wanted
                }
            };
            entry.revents = events as u16;
            ready += (events != 0) as usize;
        }
        ready
    })
    .and_then(or_interrupted);
    // Also where there is nothing to write.
    if !user::is_user_range(address, count * size_of::<PollFd>() as u64) {
        return Err(Errno::EFAULT);
    }
    // Also after a signal, when nothing was found.
    for (index, (entry, _)) in entries.iter().enumerate() {
        let field = address + (index * size_of::<PollFd>()) as u64 + 6;
        user::write(field, &entry.revents)?;
    }
    ready
}

/// `poll`.
pub fn sys_poll(address: u64, count: u64, timeout: u64) -> Result<usize> {
    let deadline = match timeout as i32 {
        milliseconds @ 0.. => deadline_after(milliseconds as u64 * 1_000_000),
        _ => FOREVER,
    };
    poll_restartable([address, count, deadline, 0, 0, 0])
}

/// `poll` with its deadline instead of a timeout: a call that was only stopped and continued goes on here.
fn poll_restartable(args: [u64; 6]) -> Result<usize> {
    let [address, count, deadline, ..] = args;
    poll_until(address, count, deadline).map_err(|error| match error {
        Errno::ERESTARTSYS => set_restart_fn(poll_restartable, args),
        other => other,
    })
}

/// `ppoll`.
pub fn sys_ppoll(address: u64, count: u64, timeout: u64, sigmask: u64, size: u64) -> Result<usize> {
    ppoll(Width::Bits64, address, count, timeout, sigmask, size)
}

/// `ppoll` with a `timespec` of this width.
pub fn ppoll(width: Width, address: u64, count: u64, timeout: u64, sigmask: u64, size: u64) -> Result<usize> {
    let timeout = Timeout::read(width, timeout, 1)?;
    let result = with_mask(sigmask, size, || poll_until(address, count, timeout.deadline));
    timeout.write_back(result)
}

/// Events that `select` calls readable, writable and exceptional.
const SELECT_EVENTS: [u32; 3] = [
    abi::POLLIN | abi::POLLRDNORM | abi::POLLRDBAND | abi::POLLHUP | abi::POLLERR,
    abi::POLLOUT | abi::POLLWRNORM | abi::POLLWRBAND | abi::POLLERR,
    abi::POLLPRI,
];

fn select_until(count: u64, sets: [u64; 3], deadline: u64) -> Result<usize> {
    if (count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let count = (count as u32 as u64).min(descriptor_limit());
    // The sets are arrays of longs.
    let bytes = count.div_ceil(8).next_multiple_of(Width::of_call().word() as u64) as usize;
    let words = bytes.div_ceil(8);
    let mut wanted: [Vec<u64>; 3] = [const { Vec::new() }; 3];
    for (set, &address) in wanted.iter_mut().zip(&sets) {
        set.resize(words, 0);
        if address != 0 {
            // SAFETY: the vector has at least that many bytes.
            unsafe { user::copy_from_user(set.as_mut_ptr().cast(), address, bytes) }?;
        }
    }
    let bits = wanted.iter().flatten().map(|word| u64::from(word.count_ones()));
    frames::require(bits.sum::<u64>() * COST)?;
    let mut files: Vec<(u64, [bool; 3], Arc<File>)> = Vec::new();
    for fd in 0..count {
        let bits = [0, 1, 2].map(|set: usize| wanted[set][fd as usize / 64] >> (fd % 64) & 1 != 0);
        if bits.contains(&true) {
            files.push((fd, bits, current().files.get(fd)?));
        }
    }
    let mut found: [Vec<u64>; 3] = [const { Vec::new() }; 3];
    let ready = wait_for(deadline, |table| {
        found = [0; 3].map(|_: u64| alloc::vec![0; words]);
        let mut ready = 0;
        for (fd, bits, file) in &files {
            let events = file.poll(table);
            for set in 0..3 {
                if bits[set] && events & SELECT_EVENTS[set] != 0 {
                    found[set][*fd as usize / 64] |= 1 << (fd % 64);
                    ready += 1;
                }
            }
        }
        ready
    })
    .and_then(or_interrupted)?;
    for (set, &address) in found.iter().zip(&sets) {
        if address != 0 {
            user::write(address, &set.as_bytes()[..bytes])?;
        }
    }
    Ok(ready)
}

/// `select`.
pub fn sys_select(count: u64, read: u64, write: u64, except: u64, timeout: u64) -> Result<usize> {
    let timeout = Timeout::read(Width::of_call(), timeout, 1000)?;
    let result = select_until(count, [read, write, except], timeout.deadline).map_err(no_restart_with_handler);
    timeout.write_back(result)
}

/// `pselect6`. The last argument points to the address and size of a signal mask.
pub fn sys_pselect6(count: u64, read: u64, write: u64, except: u64, timeout: u64, mask: u64) -> Result<usize> {
    pselect6(Width::Bits64, count, [read, write, except], timeout, mask)
}

/// `pselect6` with a `timespec` of this width.
pub fn pselect6(width: Width, count: u64, sets: [u64; 3], timeout: u64, mask: u64) -> Result<usize> {
    let timeout = Timeout::read(width, timeout, 1)?;
    let [sigmask, size] = if mask == 0 { [0, 0] } else { c_long::read_unsigned(mask)? };
    let result = with_mask(sigmask, size, || select_until(count, sets, timeout.deadline));
    timeout.write_back(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_normalised_and_not_negative() {
        let to_ns = |seconds, fraction, unit| Timespec { seconds, fraction }.to_nanoseconds(unit);
        assert_eq!((to_ns(1, 5, 1), to_ns(1, 5, 1000)), (Ok(1_000_000_005), Ok(1_000_005_000)));
        for (seconds, fraction, unit) in [(-1, 0, 1), (0, -1, 1), (0, 1_000_000_000, 1), (0, 1_000_000, 1000)] {
            assert_eq!(to_ns(seconds, fraction, unit), Err(Errno::EINVAL));
        }
        assert_eq!(to_ns(i64::MAX, 0, 1), Ok(u64::MAX), "longer than there is time");
        let left = Timespec::from_nanoseconds(2_500_000_999, 1000);
        assert_eq!((left.seconds, left.fraction), (2, 500_000));
    }

    #[test]
    fn select_names_events_as_select_2_does() {
        let [read, write, except] = SELECT_EVENTS;
        for event in [abi::POLLIN, abi::POLLRDNORM, abi::POLLRDBAND, abi::POLLHUP, abi::POLLERR] {
            assert_ne!(read & event, 0);
        }
        for event in [abi::POLLOUT, abi::POLLWRNORM, abi::POLLWRBAND, abi::POLLERR] {
            assert_ne!(write & event, 0);
        }
        assert_eq!((except, write & abi::POLLHUP, read & abi::POLLPRI), (abi::POLLPRI, 0, 0));
    }

    #[test]
    fn what_is_ready_or_not_waited_for_needs_no_sleep() {
        assert_eq!(wait_for(FOREVER, |table| if table.is_none() { 2 } else { 0 }), Ok(2));
        assert_eq!(wait_for(0, |_| 0), Ok(0), "the deadline has passed");
    }
}
