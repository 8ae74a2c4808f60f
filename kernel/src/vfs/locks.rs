//! Advisory locks: `flock` (of open files) and `fcntl` (of processes, by byte ranges).
//!
//! All locks of the system are in one list; there are few. A lock belongs to an inode by its address, and ends before
//! the inode does: with the open file, or when the process closes any descriptor of the inode.

use alloc::vec::Vec;

use crate::machine::sync::SpinLock;
use crate::sched::wait::WaitQueue;

/// Whose lock it is: an open file (`flock`, `F_OFD_SETLK`) or a descriptor table, that is, a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The open file at this address.
    OpenFile(usize),
    /// The table at this address.
    Process(usize),
}

/// A lock, or what one is asked for.
#[derive(Clone, Copy)]
pub struct Lock {
    /// The inode's address.
    pub inode: usize,
    /// Whose it is.
    pub owner: Owner,
    /// `flock` locks and range locks do not see each other.
    pub whole_file: bool,
    /// For writing.
    pub exclusive: bool,
    /// The first byte.
    pub start: u64,
    /// Past the last byte; `u64::MAX` for all that follow.
    pub end: u64,
    /// The owner's; -1 for an open file's.
    pub pid: i32,
}

impl Lock {
    fn overlaps(&self, other: &Lock) -> bool {
        self.inode == other.inode
            && self.whole_file == other.whole_file
            && self.start < other.end
            && other.start < self.end
    }

    fn conflicts(&self, other: &Lock) -> bool {
        self.overlaps(other) && self.owner != other.owner && (self.exclusive || other.exclusive)
    }
}

static LOCKS: SpinLock<Vec<Lock>> = SpinLock::new(Vec::new());
/// Woken when a lock has ended.
pub static RELEASED: WaitQueue = WaitQueue::new();

/// Removes what `lock`'s owner has in its range, keeping the parts outside.
fn clear(locks: &mut Vec<Lock>, lock: &Lock) {
    let mut pieces = Vec::new();
    locks.retain(|old| {
        if old.owner != lock.owner || !old.overlaps(lock) {
            return true;
        }
        if old.start < lock.start {
            pieces.push(Lock { end: lock.start, ..*old });
        }
        if old.end > lock.end {
            pieces.push(Lock { start: lock.end, ..*old });
        }
        false
    });
    locks.append(&mut pieces);
}

/// Takes `lock` if nothing conflicts.
pub fn try_lock(lock: &Lock) -> Option<()> {
    let mut locks = LOCKS.lock();
    if locks.iter().any(|other| lock.conflicts(other)) {
        return None;
    }
    clear(&mut locks, lock);
    locks.push(*lock);
    Some(())
}

pub fn unlock(lock: &Lock) {
    clear(&mut LOCKS.lock(), lock);
    RELEASED.wake_all();
}

fn remove_where(condition: impl Fn(&Lock) -> bool) {
    let mut locks = LOCKS.lock();
    let before = locks.len();
    locks.retain(|lock| !condition(lock));
    if locks.len() != before {
        drop(locks);
        RELEASED.wake_all();
    }
}

/// A descriptor of an inode has been closed in a table: the process's range locks on the inode end. Both by their addresses.
pub fn closed(table: usize, inode: usize) {
    let owner = Owner::Process(table);
    remove_where(|lock| lock.owner == owner && lock.inode == inode);
}

/// The open file at this address has no descriptor any more: its own locks end.
pub fn released(file: usize) {
    let owner = Owner::OpenFile(file);
    remove_where(|lock| lock.owner == owner);
}

/// A lock that keeps this one from being taken.
pub fn conflicting(lock: &Lock) -> Option<Lock> {
    LOCKS.lock().iter().find(|other| lock.conflicts(other)).copied()
}

#[cfg(test)]
mod tests;
