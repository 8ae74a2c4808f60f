//! Who owns the locks that tasks wait for (the PI operations).
//!
//! The word of such a lock holds its owner's TID. As long as nobody waits the kernel knows nothing of it. While somebody
//! does, each waiter in the lock's queue names the owner. An owner that unlocks gives the lock to the first waiter. When an
//! owner ends, the lock is nobody's until the first waiter has taken it, which writes its TID to the word by itself: the word
//! is in its memory, and perhaps not there.
//!
//! The scheduler runs tasks in turn, whatever their priorities are, so an owner needs no boost for a waiter's sake. What
//! priorities decide is the order of the waiters (`queue`).

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use crate::errno::{Errno, Result};
use crate::life::futex::key::Key;
use crate::life::futex::queue;
use crate::life::futex::queue::{List, Role, Waiter};
use crate::life::futex::word::writable;
use crate::machine::sync::SpinLock;
use crate::memory::user;
use crate::sched::scheduler;
use crate::task::pid::numbers::{meant, seen};
use crate::task::{Task, tree};

/// The longest chain of owners that wait for other owners (Linux's `max_lock_depth`).
const MAX_DEPTH: usize = 1024;

/// Guards who owns what and who waits for what, across all buckets. Taken with a bucket locked, or none.
static OWNERS: SpinLock<()> = SpinLock::new(());

/// Its locks may be waited for.
const ALIVE: u8 = 0;
/// It is giving up its locks.
const LEAVING: u8 = 1;
/// It has given up all it had.
const GONE: u8 = 2;

/// Why something could not be done with a bucket locked.
pub enum Trouble {
    /// The word was not present for writing.
    Fault,
    /// Something has changed, or is about to.
    Retry,
    /// It cannot be done.
    Failed(Errno),
}

impl Trouble {
    /// With no bucket locked: does what lets the caller try again, or says why there is no use in it.
    pub fn settle(self, address: u64) -> Result<()> {
        match self {
            Trouble::Fault => writable(address),
            Trouble::Retry => {
                scheduler::yield_now();
                Ok(())
            }
            Trouble::Failed(errno) => Err(errno),
        }
    }
}

/// Reads the word, with the bucket locked.
pub fn load(address: u64) -> core::result::Result<u32, Trouble> {
    user::load_u32(address).map_err(|_| Trouble::Fault)
}

/// Replaces the word's value if it is `old`, with the bucket locked. Returns what it was.
pub fn exchange(address: u64, old: u32, new: u32) -> core::result::Result<u32, Trouble> {
    user::atomic_cmpxchg_u32(address, old, new).map_err(|_| Trouble::Fault)
}

/// The TID by which the current task sees another.
pub fn tid(task: &Task) -> u32 {
    seen(task.tid()) as u32
}

/// The owner of a lock that is to be waited for. As long as the lock's bucket is locked, the owner does not end.
pub struct Claim {
    /// Null if it has ended and the lock is nobody's.
    pub owner: *const Task,
    /// Nobody waits for the lock yet: the owner has been told that somebody will.
    first: bool,
}

impl Claim {
    /// A task that has just become the owner of a lock, and that sleeps.
    pub fn of(task: &Task) -> Claim {
        let _owners = OWNERS.lock();
        task.locks.one_more();
        Claim { owner: task, first: true }
    }

    /// Nobody has come to wait for it. The bucket is still locked.
    pub fn give_back(self) {
        let _owners = OWNERS.lock();
        if self.first {
            // SAFETY: an owner that has been claimed does not end while the bucket is locked.
            unsafe { (*self.owner).locks.one_less() };
        }
    }
}

/// What came of an attempt to get a lock.
pub enum Attempt {
    Acquired,
    Owned(Claim),
}

/// Tries to get the lock for `task`. What is put in `found` is to be dropped with no bucket locked. `contended`: set
/// FUTEX_WAITERS, since there will be more.
pub fn try_lock(
    list: &mut List,
    key: Key,
    address: u64,
    task: &Task,
    contended: bool,
    found: &mut Option<Arc<Task>>,
) -> core::result::Result<Attempt, Trouble> {
    let value = load(address)?;
    if value & FUTEX_TID_MASK == tid(task) {
        return Err(Trouble::Failed(Errno::EDEADLK));
    }
    // SAFETY: the list is locked, `&mut`.
    if let Some(top) = unsafe { list.waiters(key).next() } {
        return join(value, top).map_err(Trouble::Failed);
    }
    if value & FUTEX_TID_MASK == 0 {
        let waiters = if contended { FUTEX_WAITERS } else { 0 };
        let new = value & FUTEX_OWNER_DIED | tid(task) | waiters;
        return match exchange(address, value, new)? == value {
            true => Ok(Attempt::Acquired),
            false => Err(Trouble::Retry),
        };
    }
    // From here on the owner cannot unlock without the kernel.
    if exchange(address, value, value | FUTEX_WAITERS)? != value {
        return Err(Trouble::Retry);
    }
    claim(address, value | FUTEX_WAITERS, found)
}

/// Somebody waits already, `top` first. EINVAL where the word contradicts what is known.
fn join(value: u32, top: &Waiter) -> Result<Attempt> {
    // SAFETY: the bucket is locked.
    let (role, owner) = unsafe { (top.role(), top.owner()) };
    let named = value & FUTEX_TID_MASK;
    let died = value & FUTEX_OWNER_DIED != 0;
    // SAFETY: an owner that is waited for does not end while the bucket is locked.
    let right = match unsafe { owner.as_ref() } {
        None => died && named == 0,
        Some(owner) => died && named == 0 || named == tid(owner),
    };
    if role != Role::Lock || !right {
        return Err(Errno::EINVAL);
    }
    Ok(Attempt::Owned(Claim { owner, first: false }))
}

/// Nobody waits yet: looks for the owner that the word names.
fn claim(address: u64, value: u32, found: &mut Option<Arc<Task>>) -> core::result::Result<Attempt, Trouble> {
    *found = tree::find_task(meant((value & FUTEX_TID_MASK) as i32));
    if let Some(owner) = found {
        if owner.is_kernel_thread() {
            return Err(Trouble::Failed(Errno::EPERM));
        }
        let _owners = OWNERS.lock();
        match owner.locks.stage.load(SeqCst) {
            ALIVE => {
                owner.locks.one_more();
                return Ok(Attempt::Owned(Claim { owner: Arc::as_ptr(owner), first: true }));
            }
            LEAVING => return Err(Trouble::Retry),
            _ => (),
        }
    }
    // Perhaps it has just given up the lock; else the word names somebody who never will.
    if load(address)? == value { Err(Trouble::Failed(Errno::ESRCH)) } else { Err(Trouble::Retry) }
}

/// Makes a waiter wait for the owner of a lock, to whose list it is added next. EDEADLK if the owner waits for it.
///
/// # Safety
/// The waiter's bucket and the lock's are locked, and it stays where it is until it is out of the list.
pub unsafe fn block(waiter: &Waiter, claim: &mut Claim) -> Result<()> {
    let _owners = OWNERS.lock();
    let mut owner = claim.owner;
    for depth in 0.. {
        // SAFETY: owners, and the places of those who wait, do not go away while this lock is held.
        let Some(task) = (unsafe { owner.as_ref() }) else {
            break;
        };
        if ptr::eq(task, waiter.task) || depth == MAX_DEPTH {
            return Err(Errno::EDEADLK);
        }
        // SAFETY: a waiter clears its task's pointer to it, under this lock, before it goes away.
        owner = match unsafe { task.locks.blocked_on.load(Relaxed).cast::<Waiter>().as_ref() } {
            // SAFETY: guarded by the lock that is held.
            Some(next) => unsafe { next.owner() },
            None => break,
        };
    }
    // SAFETY: the caller's bucket lock, and this one.
    unsafe { waiter.set_owner(claim.owner) };
    waiter.task.locks.blocked_on.store(ptr::from_ref(waiter).cast_mut().cast(), Relaxed);
    claim.first = false;
    Ok(())
}

/// The first of those who wait for a lock.
///
/// # Safety
/// The list stays locked for as long as the result is used.
unsafe fn first(list: &List, key: Key) -> Option<&'static Waiter> {
    // SAFETY: the caller's.
    unsafe { list.waiters(key).find(|waiter| waiter.role() == Role::Lock) }
}

/// Takes a waiter that gives up out of the list of a lock.
///
/// # Safety
/// It is in this list.
pub unsafe fn leave(list: &mut List, key: Key, waiter: &Waiter) {
    let _owners = OWNERS.lock();
    waiter.task.locks.blocked_on.store(ptr::null_mut(), Relaxed);
    // SAFETY: the list is locked, `&mut`; owners that are waited for do not end meanwhile.
    unsafe {
        list.remove(waiter);
        match (first(list, key), waiter.owner().as_ref()) {
            // The lock may have been left to the waiter.
            (Some(next), None) => next.nudge(),
            (None, Some(owner)) => owner.locks.one_less(),
            _ => (),
        }
    }
}

/// Makes a waiter the owner of its lock.
///
/// # Safety
/// It is in this list.
pub unsafe fn give(list: &mut List, key: Key, waiter: &Waiter) {
    let _owners = OWNERS.lock();
    let task = waiter.task;
    task.locks.blocked_on.store(ptr::null_mut(), Relaxed);
    // SAFETY: the list is locked, `&mut`; owners that are waited for do not end meanwhile.
    unsafe {
        if let Some(owner) = waiter.owner().as_ref() {
            owner.locks.one_less();
        }
        list.release(waiter);
        if first(list, key).is_some() {
            task.locks.one_more();
        }
        for other in list.waiters(key).filter(|other| other.role() == Role::Lock) {
            other.set_owner(task);
        }
    }
}

/// After a sleep in the list of a lock, which ended as `result` says: whether the current task has the lock, takes it if it
/// is nobody's, or has to leave. `None`: it is to sleep on.
pub fn look(waiter: &Waiter, key: Key, address: u64, result: Result<()>) -> Option<Result<()>> {
    loop {
        let mut list = queue::lock_of(waiter);
        if waiter.is_released() {
            return Some(Ok(()));
        }
        waiter.is_looking();
        // SAFETY: the list is locked, and the waiter is in it.
        let taken = unsafe {
            let is_first = first(&list, key).is_some_and(|first| ptr::eq(first, waiter));
            (waiter.owner().is_null() && is_first).then(|| take(&mut list, key, address, waiter))
        };
        let errno = match (taken, result) {
            (Some(Ok(())), _) => return Some(Ok(())),
            (Some(Err(trouble)), _) => {
                drop(list);
                let Err(errno) = trouble.settle(address) else {
                    continue;
                };
                list = queue::lock_of(waiter);
                errno
            }
            (None, Err(errno)) => errno,
            (None, Ok(())) => return None,
        };
        // SAFETY: the list is locked, and nobody else takes a waiter out of the list of a lock that is nobody's, nor has
        // anybody done so since `is_released` was asked.
        unsafe { leave(&mut list, key, waiter) };
        return Some(Err(errno));
    }
}

/// The owner has ended: the first waiter takes the lock.
///
/// # Safety
/// The waiter is in this list.
unsafe fn take(list: &mut List, key: Key, address: u64, waiter: &Waiter) -> core::result::Result<(), Trouble> {
    let value = load(address)?;
    let new = FUTEX_OWNER_DIED | FUTEX_WAITERS | tid(waiter.task);
    if exchange(address, value, new)? != value {
        return Err(Trouble::Retry);
    }
    // SAFETY: the caller's.
    unsafe { give(list, key, waiter) };
    Ok(())
}

/// The (current) task begins to give up its locks: from here on nobody waits for it.
pub fn begin_exit(task: &Task) {
    let _owners = OWNERS.lock();
    task.locks.stage.store(LEAVING, SeqCst);
}

/// The locks that the task still has, and that somebody waits for, are nobody's. `for_good`: it gets no new ones.
pub fn end_exit(task: &Task, for_good: bool) {
    if task.locks.owned.load(SeqCst) != 0 {
        for list in queue::each() {
            let _owners = OWNERS.lock();
            // SAFETY: the list is locked; the waiters are in it.
            unsafe {
                let waiters = list.all().filter(|waiter| waiter.role() == Role::Lock);
                for waiter in waiters.filter(|waiter| ptr::eq(waiter.owner(), task)) {
                    waiter.set_owner(ptr::null());
                    waiter.nudge();
                }
            }
        }
        task.locks.owned.store(0, SeqCst);
    }
    task.locks.stage.store(if for_good { GONE } else { ALIVE }, SeqCst);
}
