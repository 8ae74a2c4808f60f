//! A filter's end of its notifications: the calls that wait for another process to decide.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Result;
use crate::machine::sync::SpinLock;
use crate::sched::wait::WaitQueue;
use crate::task::pid::Pid;
use crate::task::seccomp::data::Data;
use crate::vfs::file::File;

/// `struct seccomp_notif_addfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddFdRequest {
    pub id: u64,
    pub flags: u32,
    pub source: u32,
    pub target: u32,
    pub target_flags: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has received it.
    Waiting,
    /// A supervisor has it.
    Sent,
    /// With this result: error, value, flags.
    Replied(i32, i64, u32),
}

/// One task that waits for an answer.
pub struct Entry {
    pub id: u64,
    pub pid: Pid,
    pub data: Data,
    pub state: State,
    /// Descriptors that the task has yet to take.
    pub descriptors: VecDeque<Arc<AddFd>>,
}

/// A descriptor on its way to the task.
pub struct AddFd {
    pub file: Arc<File>,
    pub request: AddFdRequest,
    /// What became of it: set by the task.
    pub result: SpinLock<Option<Result<usize>>>,
}

pub struct Entries {
    pub next_id: u64,
    pub list: VecDeque<Entry>,
}

impl Entries {
    pub fn find(&mut self, id: u64) -> Option<&mut Entry> {
        self.list.iter_mut().find(|entry| entry.id == id)
    }
}

/// A filter's end of its notifications.
pub struct Listener {
    /// None without a listener, or once its descriptor is closed.
    pub entries: SpinLock<Option<Entries>>,
    pub changed: WaitQueue,
}

impl Listener {
    /// No listener.
    pub const fn none() -> Listener {
        Listener { entries: SpinLock::new(None), changed: WaitQueue::new() }
    }

    /// There is one from now on.
    pub fn open(&self) {
        *self.entries.lock() = Some(Entries { next_id: crate::machine::time::now(), list: VecDeque::new() });
    }

    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        self.entries.lock().is_some()
    }

    /// Whoever waits looks again.
    pub fn wake(&self) {
        self.changed.wake_all();
    }
}
