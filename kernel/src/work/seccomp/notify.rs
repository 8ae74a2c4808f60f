//! User notification: another process decides what becomes of a call.
//!
//! The task that made the call waits as an entry in the filter's listener, which a descriptor refers to. A supervisor
//! receives the entry (RECV), may put descriptors into the task's table (ADDFD), and answers (SEND). All of them
//! sleep on one queue and look again when anything has changed.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::mem::size_of;

use linux_raw_sys::general as abi;
use portcullis::{InKernel, Skip};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::machine::gate::Gate;
use crate::machine::sync::SpinLock;
use crate::memory::user;
use crate::sched::lent::lend;
use crate::sched::wait::PollTable;
use crate::task::current;
use crate::task::pid::numbers::seen;
use crate::task::seccomp::data::Data;
use crate::task::seccomp::filter::Filter;
use crate::task::seccomp::listener::{AddFd, AddFdRequest, Entry, Listener, State};
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::file::FileOps;

/// `struct seccomp_notif`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    data: Data,
}

/// `struct seccomp_notif_resp`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: the call is made after all.
const FLAG_CONTINUE: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SETFD`: at the given number.
const ADDFD_SETFD: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SEND`: and the number is the call's result.
const ADDFD_SEND: u32 = 2;

/// `SECCOMP_IOCTL_NOTIF_*`.
const IOCTL_RECV: u32 = 0xc050_2100;
const IOCTL_SEND: u32 = 0xc018_2101;
const IOCTL_ID_VALID: u32 = 0x4008_2102;
/// The same with the direction that the first kernels had.
const IOCTL_ID_VALID_OLD: u32 = 0x8008_2102;
const IOCTL_ADDFD: u32 = 0x2103;
/// The size in a request's number, and the bits that say the direction.
const IOCTL_SIZE: u32 = 0x3fff << 16;
const IOCTL_DIRECTION: u32 = 3 << 30;

/// The sizes of the structures, for `SECCOMP_GET_NOTIF_SIZES`: notification, response, data.
pub const SIZES: [u16; 3] = [size_of::<Notification>() as u16, size_of::<Response>() as u16, size_of::<Data>() as u16];

/// The current task's call is up to the listener: waits for the answer and does as it says.
pub fn ask(filter: &Filter, data: &Data, at: &mut InKernel<'_, Gate>) -> core::result::Result<(), Skip> {
    let (error, value) = match lend(at, || wait_for_answer(filter, data)) {
        Ok((_, _, flags)) if flags & FLAG_CONTINUE != 0 => return Ok(()),
        Ok((error, value, _)) => (i64::from(error), value),
        Err(Errno(number)) => (-(number as i64), 0),
    };
    at.regs().rax = if error != 0 { error } else { value } as u64;
    Err(Skip)
}

fn wait_for_answer(filter: &Filter, data: &Data) -> Result<(i32, i64, u32)> {
    let listener = &filter.listener;
    let id = {
        let mut entries = listener.entries.lock();
        let entries = entries.as_mut().ok_or(Errno::ENOSYS)?;
        let id = entries.next_id;
        entries.next_id = id.wrapping_add(1);
        entries.list.push_back(Entry {
            id,
            pid: current().tid(),
            data: *data,
            state: State::Waiting,
            descriptors: VecDeque::new(),
        });
        id
    };
    listener.wake();
    let result = serve(filter, id);
    let entry = {
        let mut entries = listener.entries.lock();
        entries.as_mut().and_then(|entries| {
            let at = entries.list.iter().position(|entry| entry.id == id)?;
            entries.list.remove(at)
        })
    };
    // The task goes on without having taken these.
    for descriptor in entry.iter().flat_map(|entry| &entry.descriptors) {
        descriptor.result.lock().get_or_insert(Err(Errno::ESRCH));
    }
    listener.wake();
    result
}

/// What there is to do for a task that waits.
enum Next {
    Descriptor(Arc<AddFd>),
    Answer((i32, i64, u32)),
    /// Received: only a fatal signal may end the wait from now on.
    Killable,
}

/// Takes descriptors until the answer comes.
fn serve(filter: &Filter, id: u64) -> Result<(i32, i64, u32)> {
    let listener = &filter.listener;
    let next = |killable: bool| {
        let mut entries = listener.entries.lock();
        // The listener is gone and nobody will answer.
        let Some(entry) = entries.as_mut().and_then(|entries| entries.find(id)) else {
            return Some(Next::Answer((-(Errno::ENOSYS.0 as i32), 0, 0)));
        };
        if let Some(descriptor) = entry.descriptors.pop_front() {
            return Some(Next::Descriptor(descriptor));
        }
        match entry.state {
            State::Replied(error, value, flags) => Some(Next::Answer((error, value, flags))),
            State::Sent if filter.wait_killable && !killable => Some(Next::Killable),
            _ => None,
        }
    };
    let mut killable = false;
    loop {
        let what = if killable {
            listener.changed.wait_killable(|| next(true))?
        } else {
            listener.changed.wait_until(|| next(false))?
        };
        match what {
            Next::Descriptor(descriptor) => take(listener, id, &descriptor),
            Next::Answer(answer) => return Ok(answer),
            Next::Killable => killable = true,
        }
    }
}

/// Puts a descriptor into the current task's table.
fn take(listener: &Listener, id: u64, descriptor: &AddFd) {
    let AddFd { file, request, .. } = descriptor;
    let files = &current().files;
    let close_on_exec = request.target_flags & abi::O_CLOEXEC != 0;
    let result = if request.flags & ADDFD_SETFD != 0 {
        let target = u64::from(request.target);
        files.assign(target, file.clone(), close_on_exec).map(|()| target)
    } else {
        files.install(file.clone(), close_on_exec)
    };
    if request.flags & ADDFD_SEND != 0
        && let Some(entry) = listener.entries.lock().as_mut().and_then(|all| all.find(id))
    {
        entry.state = match result {
            Ok(fd) => State::Replied(0, fd as i64, 0),
            // The supervisor sees the error and may answer otherwise.
            Err(_) => State::Sent,
        };
    }
    *descriptor.result.lock() = Some(result.map(|fd| fd as usize));
    listener.wake();
}

/// The listener's open file.
struct Notifier(Arc<Filter>);

/// An open file for the filter's listener, which must be open.
pub fn file(filter: Arc<Filter>) -> Arc<File> {
    anonymous_file("seccomp notify", Arc::new(Notifier(filter)), abi::O_RDWR)
}

impl Drop for Notifier {
    /// Who waits for an answer gets ENOSYS.
    fn drop(&mut self) {
        let listener = &self.0.listener;
        let entries = listener.entries.lock().take();
        let descriptors = entries.iter().flat_map(|entries| &entries.list);
        for descriptor in descriptors.flat_map(|entry| &entry.descriptors) {
            descriptor.result.lock().get_or_insert(Err(Errno::ESRCH));
        }
        listener.wake();
    }
}

impl FileOps for Notifier {
    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        let listener = &self.0.listener;
        if let Some(table) = table {
            listener.changed.register(table);
        }
        let mut events = 0;
        for entry in listener.entries.lock().iter().flat_map(|entries| &entries.list) {
            events |= match entry.state {
                State::Waiting => abi::POLLIN | abi::POLLRDNORM,
                State::Sent => abi::POLLOUT | abi::POLLWRNORM,
                State::Replied(..) => 0,
            };
        }
        if self.0.is_orphaned() {
            events |= abi::POLLHUP;
        }
        events
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        match request {
            IOCTL_RECV => self.receive(argument),
            IOCTL_SEND => self.send(argument),
            IOCTL_ID_VALID | IOCTL_ID_VALID_OLD => self.is_valid(argument),
            _ if request & !(IOCTL_SIZE | IOCTL_DIRECTION) == IOCTL_ADDFD => {
                self.add_fd(argument, (request & IOCTL_SIZE) >> 16)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Notifier {
    /// Gives `change` the entry with this number.
    fn with<T>(&self, id: u64, change: impl FnOnce(&mut Entry) -> Result<T>) -> Result<T> {
        let mut entries = self.0.listener.entries.lock();
        change(entries.as_mut().and_then(|entries| entries.find(id)).ok_or(Errno::ENOENT)?)
    }

    /// Waits for the next notification.
    fn receive(&self, address: u64) -> Result<usize> {
        // So that fields that come later are not taken for garbage.
        let before: Notification = user::read(address)?;
        if before.as_bytes().iter().any(|&byte| byte != 0) {
            return Err(Errno::EINVAL);
        }
        let listener = &self.0.listener;
        let notification = listener.changed.wait_until(|| {
            let mut entries = listener.entries.lock();
            let list = &mut entries.as_mut()?.list;
            let entry = list.iter_mut().find(|entry| entry.state == State::Waiting)?;
            entry.state = State::Sent;
            Some(Notification { id: entry.id, pid: seen(entry.pid) as u32, flags: 0, data: entry.data })
        })?;
        listener.wake();
        if let Err(error) = user::write(address, &notification) {
            // Somebody else is to have it.
            let _ = self.with(notification.id, |entry| {
                if entry.state == State::Sent {
                    entry.state = State::Waiting;
                }
                Ok(())
            });
            listener.wake();
            return Err(error);
        }
        Ok(0)
    }

    /// Answers.
    fn send(&self, address: u64) -> Result<usize> {
        let response: Response = user::read(address)?;
        let continues = response.flags & FLAG_CONTINUE != 0;
        if response.flags & !FLAG_CONTINUE != 0 || continues && (response.error != 0 || response.value != 0) {
            return Err(Errno::EINVAL);
        }
        self.with(response.id, |entry| {
            if entry.state != State::Sent {
                return Err(Errno::EINPROGRESS);
            }
            entry.state = State::Replied(response.error, response.value, response.flags);
            Ok(())
        })?;
        self.0.listener.wake();
        Ok(0)
    }

    /// Whether the task still waits, so that its PID still means it.
    fn is_valid(&self, address: u64) -> Result<usize> {
        let id: u64 = user::read(address)?;
        self.with(id, |entry| match entry.state {
            State::Sent => Ok(0),
            _ => Err(Errno::ENOENT),
        })
    }

    /// Puts one of the caller's descriptors into the task's table. Gives its number there.
    fn add_fd(&self, address: u64, size: u32) -> Result<usize> {
        const SIZE: usize = size_of::<AddFdRequest>();
        const LARGEST: usize = 4096;
        let size = size as usize;
        if !(SIZE..LARGEST).contains(&size) {
            return Err(Errno::EINVAL);
        }
        let mut request = AddFdRequest::new_zeroed();
        // SAFETY: the size of the structure.
        unsafe { user::copy_from_user(request.as_mut_bytes().as_mut_ptr(), address, SIZE) }?;
        // Fields that this kernel does not know must be zero.
        for offset in SIZE..size {
            if user::read::<u8>(address + offset as u64)? != 0 {
                return Err(Errno::E2BIG);
            }
        }
        if request.target_flags & !abi::O_CLOEXEC != 0
            || request.flags & !(ADDFD_SETFD | ADDFD_SEND) != 0
            || request.target != 0 && request.flags & ADDFD_SETFD == 0
        {
            return Err(Errno::EINVAL);
        }
        let descriptor =
            Arc::new(AddFd { file: current().files.get(request.source.into())?, request, result: SpinLock::new(None) });
        self.with(request.id, |entry| {
            if entry.state != State::Sent {
                return Err(Errno::EINPROGRESS);
            }
            if request.flags & ADDFD_SEND != 0 {
                if !entry.descriptors.is_empty() {
                    return Err(Errno::EBUSY);
                }
                entry.state = State::Replied(0, 0, 0);
            }
            entry.descriptors.push_front(descriptor.clone());
            Ok(())
        })?;
        let listener = &self.0.listener;
        listener.wake();
        let result = listener.changed.wait_until(|| *descriptor.result.lock());
        match result {
            Ok(result) => result,
            Err(interrupted) => {
                // Unless the task has it already, it is not to get it.
                let _ = self.with(request.id, |entry| {
                    entry.descriptors.retain(|other| !Arc::ptr_eq(other, &descriptor));
                    Ok(())
                });
                let result = *descriptor.result.lock();
                result.unwrap_or(Err(interrupted))
            }
        }
    }
}
