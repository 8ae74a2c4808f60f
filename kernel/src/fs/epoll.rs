//! `epoll`: a set of files, kept in the kernel, that a task waits for.
//!
//! A wait asks every file of the set, as `poll` does. Edge-triggered entries are reported when an event is true that
//! was not at the last look.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::memory::frames;
use crate::sched::wait::{PollTable, WaitQueue};
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::file::{File, FileOps};

/// `struct epoll_event`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
pub struct Event {
    events: u32,
    data: u64,
}

/// Sets of sets may be this deep.
const MAX_DEPTH: usize = 5;

struct Entry {
    file: Weak<File>,
    event: Event,
    /// Events that were true at the last look, for edge-triggered entries.
    seen: u32,
    /// [`FileOps::edges`] when it was last reported.
    edges: u64,
    /// A one-shot entry that has been reported.
    disabled: bool,
}

/// One set.
struct EventPoll {
    /// By descriptor and file, which together name an entry.
    entries: SpinLock<BTreeMap<(i32, usize), Entry>>,
    /// Woken when the set changes.
    changed: WaitQueue,
    /// The sets that this one is in.
    outer: SpinLock<Vec<Weak<File>>>,
}

/// Held while a set is put into another, so that the check and the change are one.
static NESTING: SpinLock<()> = SpinLock::new(());

/// Flags of an entry that are no events.
const ENTRY_FLAGS: u32 = abi::EPOLLET | abi::EPOLLONESHOT | abi::EPOLLWAKEUP | abi::EPOLLEXCLUSIVE;

impl EventPoll {
    /// The entries with their files, which the caller keeps while it asks them. Entries of closed files go.
    fn files(&self) -> Vec<((i32, usize), Arc<File>)> {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| entry.file.strong_count() > 0);
        entries.iter().filter_map(|(&key, entry)| Some((key, entry.file.upgrade()?))).collect()
    }

    /// Asks all files; returns up to `limit` events.
    fn look(&self, files: &[((i32, usize), Arc<File>)], table: Option<&PollTable>, limit: usize) -> Vec<Event> {
        let mut found = Vec::new();
        for (key, file) in files {
            let now = file.poll(table);
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(key) else {
                continue;
            };
            let wanted = entry.event.events & !ENTRY_FLAGS | abi::EPOLLERR | abi::EPOLLHUP;
            let ready = now & wanted;
            let edges = file.ops().edges();
            let news = ready & !entry.seen != 0 || edges != entry.edges || entry.event.events & abi::EPOLLET == 0;
            if ready == 0 || !news || entry.disabled || found.len() == limit {
                entry.seen &= ready;
                continue;
            }
            entry.seen = ready;
            entry.edges = edges;
            entry.disabled = entry.event.events & abi::EPOLLONESHOT != 0;
            found.push(Event { events: ready, ..entry.event });
        }
        found
    }

    fn entry(&self, fd: i32, file: &Arc<File>) -> Option<Event> {
        let key = (fd, Arc::as_ptr(file) as usize);
        self.entries.lock().get(&key).map(|entry| entry.event)
    }

    fn is_ready(&self, table: Option<&PollTable>) -> bool {
        self.files().iter().any(|(key, file)| {
            let now = file.poll(table);
            self.entries.lock().get(key).is_some_and(|entry| {
                !entry.disabled && now & (entry.event.events & !ENTRY_FLAGS | abi::EPOLLERR | abi::EPOLLHUP) != 0
            })
        })
    }

    /// How many sets deep it is, itself included. Nothing is deeper than [`MAX_DEPTH`].
    fn height(&self) -> usize {
        let inner = self.files().into_iter().filter_map(|(_, file)| of_file(&file).map(EventPoll::height));
        1 + inner.max().unwrap_or(0)
    }
}

/// How many sets contain each other above and at `file`. None if `inner` is one of them.
fn levels_above(file: &Arc<File>, inner: &Arc<File>) -> Option<usize> {
    if Arc::ptr_eq(file, inner) {
        return None;
    }
    let mut levels = 0;
    if let Some(set) = of_file(file) {
        let outer: Vec<_> = set.outer.lock().iter().filter_map(Weak::upgrade).collect();
        for file in &outer {
            levels = levels.max(levels_above(file, inner)?);
        }
    }
    Some(levels + 1)
}

/// Notes that `inner` will be in `set`, if it is a set that may be.
fn nest(set: &Arc<File>, inner: &Arc<File>) -> Result<()> {
    let Some(inner_set) = of_file(inner) else {
        return Ok(());
    };
    let _nesting = NESTING.lock();
    match levels_above(set, inner) {
        Some(levels) if levels + inner_set.height() <= MAX_DEPTH => {
            let mut outer = inner_set.outer.lock();
            outer.retain(|file| file.strong_count() > 0);
            outer.push(Arc::downgrade(set));
            Ok(())
        }
        _ => Err(Errno::ELOOP),
    }
}

impl FileOps for EventPoll {
    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            self.changed.register(table);
        }
        if self.is_ready(table) { abi::POLLIN | abi::POLLRDNORM } else { 0 }
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn describe(&self, _file: &File, out: &mut String) {
        for ((fd, _), file) in self.files() {
            let Some(event) = self.entry(fd, &file) else {
                continue;
            };
            let (events, data) = (event.events, event.data);
            let metadata = file.inode().metadata();
            let position = file.seek(0, abi::SEEK_CUR).unwrap_or(0);
            let _ = writeln!(
                out,
                "tfd: {fd:8} events: {events:8x} data: {data:16x}  pos:{position} ino:{:x} sdev:{:x}",
                metadata.ino, metadata.device
            );
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

fn of_file(file: &File) -> Option<&EventPoll> {
    file.ops().as_any()?.downcast_ref()
}

/// An open, empty set.
pub fn new_epoll() -> Arc<File> {
    let set =
        EventPoll { entries: SpinLock::new(BTreeMap::new()), changed: WaitQueue::new(), outer: SpinLock::default() };
    anonymous_file("eventpoll", Arc::new(set), abi::O_RDWR)
}

/// Adds, changes or removes the entry of `file` as descriptor `fd`. `operation`: `EPOLL_CTL_*`; `event`: None to remove.
pub fn control(set: &Arc<File>, operation: u32, fd: i32, file: &Arc<File>, event: Option<Event>) -> Result<()> {
    let poll = of_file(set).ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(set, file) {
        return Err(Errno::EINVAL);
    }
    if matches!(file.inode().file_type(), abi::S_IFREG | abi::S_IFDIR) {
        // What is always ready is not waited for.
        return Err(Errno::EPERM);
    }
    let key = (fd, Arc::as_ptr(file) as usize);
    match (operation, event) {
        (abi::EPOLL_CTL_ADD, Some(event)) => {
            nest(set, file)?;
            frames::require_spare()?;
            // Entries of files that are closed make way: a new file may have the same address.
            drop(poll.files());
            let mut entries = poll.entries.lock();
            if entries.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            entries.insert(key, Entry { file: Arc::downgrade(file), event, seen: 0, edges: 0, disabled: false });
        }
        (abi::EPOLL_CTL_MOD, Some(event)) => {
            let mut entries = poll.entries.lock();
            let entry = entries.get_mut(&key).ok_or(Errno::ENOENT)?;
            *entry = Entry { file: Arc::downgrade(file), event, seen: 0, edges: 0, disabled: false };
        }
        (abi::EPOLL_CTL_DEL, _) => {
            let removed = poll.entries.lock().remove(&key);
            removed.ok_or(Errno::ENOENT)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    poll.changed.wake_all();
    Ok(())
}

/// Waits until there are events or the deadline has passed. Returns up to `limit` events.
pub fn wait(set: &File, limit: usize, deadline: u64) -> Result<Vec<Event>> {
    let poll = of_file(set).ok_or(Errno::EINVAL)?;
    loop {
        // Each round with the files that are in the set then: it may change while we sleep. The table is dropped
        // before the files whose queues it is in.
        let files = poll.files();
        let table = PollTable::new();
        poll.changed.register(&table);
        let found = poll.look(&files, Some(&table), limit);
        if !found.is_empty() || deadline <= time::now() {
            return Ok(found);
        }
        match table.wait(deadline) {
            Err(Errno::ETIMEDOUT) => return Ok(poll.look(&files, None, limit)),
            other => other?,
        }
    }
}

#[cfg(test)]
mod tests;
