//! What has been sent and not received.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use linux_raw_sys::errno;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::frames;
use crate::net::credentials::PeerCredentials;
use crate::net::options::BUFFER;
use crate::net::unix::name::Name;
use crate::sched::wait::WaitQueue;
use crate::task::current;
use crate::vfs::buffer::Source;
use crate::vfs::fd::descriptor_limit;
use crate::vfs::file::File;

/// What a message counts beside its bytes, so that empty ones are bounded, too. (Linux's smallest buffer with its head.)
const OVERHEAD: usize = 768;

/// What a socket has sent, wherever it waits.
pub struct Outbox {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// Somebody has found no room since there was some.
    is_awaited: AtomicBool,
    edges: AtomicU64,
    /// Woken when there may be room.
    pub room: WaitQueue,
}

impl Outbox {
    /// Nothing has been sent.
    pub fn new() -> Arc<Outbox> {
        Arc::new(Outbox {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(BUFFER as usize),
            is_awaited: AtomicBool::new(false),
            edges: AtomicU64::new(0),
            room: WaitQueue::new(),
        })
    }

    /// How much may be sent and not received.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Changes that.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
        self.wake();
    }

    /// How much is sent and not received.
    pub fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    /// Counts a message of `len` bytes. None: there is no room; who waits for it is woken.
    pub fn charge(self: &Arc<Self>, len: usize) -> Option<Charge> {
        // First, so that whoever makes room after the look wakes us.
        self.is_awaited.store(true, SeqCst);
        let bytes = len + OVERHEAD;
        let taken = self.used.fetch_update(SeqCst, SeqCst, |used| (used < self.limit()).then_some(used + bytes));
        taken.ok().map(|_| Charge { outbox: self.clone(), bytes })
    }

    /// Whether poll calls it writable: three quarters are free.
    pub fn has_much_room(&self) -> bool {
        self.is_awaited.store(true, SeqCst);
        self.used() * 4 <= self.limit()
    }

    /// There may be room now, here or at the receiver.
    pub fn wake(&self) {
        if self.is_awaited.swap(false, SeqCst) {
            self.edges.fetch_add(1, Relaxed);
            self.room.wake_all();
        }
    }

    /// Notes that somebody waits for room at the receiver.
    pub fn await_room(&self) {
        self.is_awaited.store(true, SeqCst);
    }

    /// How often room has come.
    pub fn edges(&self) -> u64 {
        self.edges.load(Relaxed)
    }
}

/// What a message takes of its sender's room, until it is dropped.
pub struct Charge {
    outbox: Arc<Outbox>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.outbox.used.fetch_sub(self.bytes, SeqCst);
        self.outbox.wake();
    }
}

/// How many files each user has in flight.
static IN_FLIGHT: SpinLock<BTreeMap<u32, usize>> = SpinLock::new(BTreeMap::new());

/// Files that are to be closed, while somebody closes files in flight.
static DOOMED: SpinLock<Option<Vec<Arc<File>>>> = SpinLock::new(None);

/// Takes the next `len` bytes of what is sent.
pub fn take_bytes(from: &mut Source, len: usize) -> Result<Arc<Vec<u8>>> {
    frames::require(len as u64)?;
    Ok(Arc::new(from.take_all(len)?))
}

/// Files that go with a message.
pub struct InFlight {
    files: Vec<Arc<File>>,
    user: u32,
}

impl InFlight {
    /// Of the current process.
    pub fn of_current(files: Vec<Arc<File>>) -> Result<InFlight> {
        if files.is_empty() {
            return Ok(InFlight { files, user: 0 });
        }
        let user = current().process.credentials.lock().user.real;
        InFlight::new(files, user, descriptor_limit())
    }

    /// Counts them. ETOOMANYREFS if the user would have more than `limit`.
    pub fn new(files: Vec<Arc<File>>, user: u32, limit: u64) -> Result<InFlight> {
        if !files.is_empty() {
            let mut counts = IN_FLIGHT.lock();
            let count = counts.get(&user).copied().unwrap_or(0) + files.len();
            if count as u64 > limit {
                return Err(Errno(errno::ETOOMANYREFS as usize));
            }
            counts.insert(user, count);
        }
        Ok(InFlight { files, user })
    }

    /// The files, for somebody who looks at the message and does not take it.
    pub fn copies(&self) -> Vec<Arc<File>> {
        self.files.clone()
    }

    /// They have arrived.
    pub fn take(&mut self) -> Vec<Arc<File>> {
        let files = mem::take(&mut self.files);
        if !files.is_empty() {
            let mut counts = IN_FLIGHT.lock();
            let left = counts.get(&self.user).copied().unwrap_or(0).saturating_sub(files.len());
            match left {
                0 => counts.remove(&self.user),
                _ => counts.insert(self.user, left),
            };
        }
        files
    }
}

impl Drop for InFlight {
    /// Closes them. A socket among them may be the last reference to others in messages that wait at it: those are closed by whoever is
    /// at it, in a loop and not deeper in its stack.
    fn drop(&mut self) {
        let files = self.take();
        if files.is_empty() {
            return;
        }
        {
            let mut doomed = DOOMED.lock();
            match &mut *doomed {
                Some(list) => return list.extend(files),
                None => *doomed = Some(files),
            }
        }
        loop {
            let batch = {
                let mut doomed = DOOMED.lock();
                match &mut *doomed {
                    Some(list) if !list.is_empty() => mem::take(list),
                    _ => {
                        *doomed = None;
                        return;
                    }
                }
            };
            drop(batch);
        }
    }
}

/// One message, or a piece of a stream.
pub struct Message {
    /// The bytes. Whoever copies them to a user holds them, and no lock.
    pub bytes: Arc<Vec<u8>>,
    /// How many of them have been received: of a stream's.
    pub start: usize,
    /// The sender's name.
    pub from: Option<Arc<Name>>,
    /// The sender, if either side asked for it.
    pub credentials: Option<PeerCredentials>,
    /// Files that go with it.
    pub files: InFlight,
    /// What it takes of the sender's room, counted back when it is dropped.
    pub _charge: Charge,
}

impl Message {
    /// Bytes that have not been received.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.start
    }
}
