//! What a task keeps for seccomp. What the filters' verdicts do is in [`work::seccomp`](crate::work::seccomp).
//!
//! **Locks.** The process tree's lock guards which filter a task has, where somebody else may look or change it (fork,
//! TSYNC). A task reads its own without: whoever replaces it puts a filter there that keeps the old one alive.

pub mod bpf;
pub mod data;
pub mod filter;
pub mod listener;

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering::*};

use portcullis::work::SyscallWork;

use crate::sched::thread::Thread;
use crate::task::seccomp::filter::{Attached, Filter};

/// No filters.
pub const DISABLED: u8 = 0;
/// `SECCOMP_MODE_STRICT`: read, write, exit and sigreturn only.
pub const STRICT: u8 = 1;
/// `SECCOMP_MODE_FILTER`.
pub const FILTER: u8 = 2;

/// The process tree, locked: whoever has a reference to it.
///
/// # Safety
/// There is one value of the type, and references to it are had with its lock alone.
pub unsafe trait TreeLock {}

/// What a task keeps for seccomp.
pub struct TaskSeccomp {
    pub mode: AtomicU8,
    /// The filter in `attached`, for the task itself to read without a lock.
    newest: AtomicPtr<Filter>,
    /// Guarded by the process tree's lock.
    attached: UnsafeCell<Option<Attached>>,
}

// SAFETY: `attached` is touched only with the process tree locked, which the methods' arguments show.
unsafe impl Sync for TaskSeccomp {}

impl TaskSeccomp {
    /// Nothing forbidden.
    pub const fn new() -> Self {
        TaskSeccomp {
            mode: AtomicU8::new(DISABLED),
            newest: AtomicPtr::new(ptr::null_mut()),
            attached: UnsafeCell::new(None),
        }
    }

    /// The mode, as `prctl(PR_GET_SECCOMP)` gives it.
    pub fn mode(&self) -> u8 {
        self.mode.load(Relaxed)
    }

    /// The task's newest filter.
    pub fn attached<'a>(&'a self, _tree: &'a impl TreeLock) -> Option<&'a Attached> {
        // SAFETY: the tree is locked.
        unsafe { (*self.attached.get()).as_ref() }
    }

    /// Replaces the newest filter by one that follows it, or by none at the task's end. The old one is to be dropped
    /// without the lock.
    pub fn replace(&self, _tree: &mut impl TreeLock, new: Option<Attached>) -> Option<Attached> {
        let newest = new.as_deref().map_or(ptr::null(), ptr::from_ref::<Filter>);
        self.newest.store(newest.cast_mut(), Release);
        // SAFETY: the tree is locked, by a mutable reference.
        unsafe { core::mem::replace(&mut *self.attached.get(), new) }
    }

    /// Sets the mode and lets the calls be judged from now on.
    pub fn enable(&self, thread: &Thread, mode: u8) {
        self.mode.store(mode, Release);
        thread.work.arm(SyscallWork::SECCOMP);
    }
}

/// The current task's newest filter.
pub fn newest(seccomp: &'static TaskSeccomp) -> Option<&'static Filter> {
    // SAFETY: the task's own filter: it is replaced only by filters that keep it alive, and the last one is let go of by
    // the task itself, at its end.
    unsafe { seccomp.newest.load(Acquire).as_ref() }
}
