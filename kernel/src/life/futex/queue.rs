//! Who waits for a futex: lists of waiters, by a hash of their keys.
//!
//! A waiter is on its task's stack and in the list of its bucket. Whoever gives it what it waits for takes it out, with the
//! bucket locked ([`List::release`]); otherwise it takes itself out. Before it returns it has held the lock of its bucket
//! once more, so for as long as a bucket is locked, the waiters found in it, and those just taken out, are alive.
//!
//! With a bucket locked, user memory may be read and written as long as it is present; what is not gives EFAULT, and is made
//! present when no bucket is locked.

use core::cell::UnsafeCell;
use core::marker::PhantomPinned;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::*};

use intrusive_collections::linked_list::LinkedListOps;
use intrusive_collections::{Adapter, LinkedList, LinkedListLink, UnsafeRef, intrusive_adapter};

use crate::life::futex::key::Key;
use crate::machine::sync::{SpinLock, SpinLockGuard};
use crate::sched::scheduler;
use crate::task::{Task, current};

const BUCKETS: usize = 64;

static TABLE: [SpinLock<List>; BUCKETS] = [const { SpinLock::new(List::new()) }; BUCKETS];

/// Waiters whose keys hash alike: by real-time priority, then in the order in which they came.
pub struct List(LinkedList<InBucket>);

/// What a waiter waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A wake-up.
    Wake,
    /// To be moved to the lock with this key (FUTEX_WAIT_REQUEUE_PI).
    Requeue(Key),
    /// The ownership of a lock.
    Lock,
}

/// It is in a list.
const WAITING: u8 = 0;
/// It has been taken out: it has got what it waited for.
const RELEASED: u8 = 1;
/// It is in a list and is to look again.
const NUDGED: u8 = 2;

/// A task's place in a queue.
pub struct Waiter {
    pub task: &'static Task,
    pub bitset: u32,
    priority: i32,
    state: AtomicU8,
    /// Changed with both the old and the new bucket locked.
    bucket: AtomicUsize,
    /// Guarded by the lock of the bucket it is in.
    place: UnsafeCell<Place>,
    /// Guarded as `place` is.
    link: LinkedListLink,
    _pinned: PhantomPinned,
}

intrusive_adapter!(InBucket = UnsafeRef<Waiter>: Waiter { link => LinkedListLink });

// SAFETY: all but the pointer to the owner is Send on its own, and that is followed under a lock that keeps the owner (`pi`).
unsafe impl Send for Waiter {}
// SAFETY: `place` and `link` are guarded by the lock of the bucket; everything else is Sync on its own.
unsafe impl Sync for Waiter {}

#[derive(Clone, Copy)]
struct Place {
    key: Key,
    role: Role,
    /// Who has the lock that it waits for. Written with the lock of the bucket and [`crate::life::futex::pi`]'s, read with either.
    owner: *const Task,
}

impl Waiter {
    /// The current task, in no list yet.
    pub fn new(key: Key, role: Role, bitset: u32) -> Waiter {
        Waiter {
            task: current(),
            bitset,
            priority: current().policy.priority(),
            state: AtomicU8::new(WAITING),
            bucket: AtomicUsize::new(key.hash(BUCKETS)),
            place: UnsafeCell::new(Place { key, role, owner: ptr::null() }),
            link: LinkedListLink::new(),
            _pinned: PhantomPinned,
        }
    }

    /// Whether somebody has given it what it waits for, or wants it to look again.
    pub fn is_called(&self) -> bool {
        self.state.load(SeqCst) != WAITING
    }

    /// Whether it has got what it waits for.
    pub fn is_released(&self) -> bool {
        self.state.load(SeqCst) == RELEASED
    }

    /// It looks: another nudge is news.
    pub fn is_looking(&self) {
        let _ = self.state.compare_exchange(NUDGED, WAITING, SeqCst, SeqCst);
    }

    /// Makes it look again.
    ///
    /// # Safety
    /// Its bucket is locked, and it is in it.
    pub unsafe fn nudge(&self) {
        self.state.store(NUDGED, SeqCst);
        scheduler::wake(self.task);
    }

    /// What it waits for.
    ///
    /// # Safety
    /// Its bucket is locked.
    pub unsafe fn role(&self) -> Role {
        // SAFETY: guarded by the lock that the caller holds.
        unsafe { (*self.place.get()).role }
    }

    /// Who has the lock that it waits for.
    ///
    /// # Safety
    /// Its bucket is locked, or [`crate::life::futex::pi`]'s lock is held.
    pub unsafe fn owner(&self) -> *const Task {
        // SAFETY: guarded by either lock.
        unsafe { (*self.place.get()).owner }
    }

    /// # Safety
    /// Its bucket is locked, and [`crate::life::futex::pi`]'s lock is held.
    pub unsafe fn set_owner(&self, owner: *const Task) {
        // SAFETY: guarded by both locks.
        unsafe { (*self.place.get()).owner = owner };
    }
}

/// The waiters of one key, or of all, in order. The one that was given last may be taken out.
pub struct Waiters {
    at: *const Waiter,
    key: Option<Key>,
}

impl Iterator for Waiters {
    type Item = &'static Waiter;

    fn next(&mut self) -> Option<&'static Waiter> {
        loop {
            // SAFETY: listed waiters are alive while the bucket is locked (`List::waiters`).
            let waiter = unsafe { self.at.as_ref() }?;
            // A cursor would borrow the list, which is changed meanwhile.
            let links = InBucket::NEW;
            // SAFETY: it is in the list, as are those that its link leads to; guarded by the same lock.
            let (next, key) = unsafe {
                let next = links.link_ops().next(links.get_link(waiter));
                (next.map_or(ptr::null(), |next| links.get_value(next)), (*waiter.place.get()).key)
            };
            self.at = next;
            if self.key.is_none_or(|wanted| wanted == key) {
                return Some(waiter);
            }
        }
    }
}

impl List {
    const fn new() -> List {
        List(LinkedList::new(InBucket::NEW))
    }

    fn head(&self) -> *const Waiter {
        self.0.front().get().map_or(ptr::null(), ptr::from_ref)
    }

    /// The waiters of `key`.
    ///
    /// # Safety
    /// This list stays locked for as long as the result and what it gives are used.
    pub unsafe fn waiters(&self, key: Key) -> Waiters {
        Waiters { at: self.head(), key: Some(key) }
    }

    /// All waiters.
    ///
    /// # Safety
    /// This list stays locked for as long as the result and what it gives are used.
    pub unsafe fn all(&self) -> Waiters {
        Waiters { at: self.head(), key: None }
    }

    /// # Safety
    /// The waiter is in no list and stays where it is until it is out again; this list is its bucket's.
    pub unsafe fn push(&mut self, waiter: &Waiter) {
        let mut before = self.0.back_mut();
        while before.get().is_some_and(|other| other.priority < waiter.priority) {
            before.move_prev();
        }
        // SAFETY: the caller's.
        before.insert_after(unsafe { UnsafeRef::from_raw(waiter) });
    }

    /// # Safety
    /// The waiter is in this list.
    pub unsafe fn remove(&mut self, waiter: &Waiter) {
        // SAFETY: the caller's.
        unsafe { self.0.cursor_mut_from_ptr(waiter).remove() };
    }

    /// Takes a waiter out and wakes it: it has got what it waits for.
    ///
    /// # Safety
    /// The waiter is in this list.
    pub unsafe fn release(&mut self, waiter: &Waiter) {
        // SAFETY: the caller's.
        unsafe { self.remove(waiter) };
        waiter.state.store(RELEASED, SeqCst);
        // It does not return before it has had the lock of this bucket, so its task is there.
        scheduler::wake(waiter.task);
    }
}

/// Locks the bucket of a key.
pub fn lock(key: Key) -> SpinLockGuard<'static, List> {
    TABLE[key.hash(BUCKETS)].lock()
}

/// Locks each bucket in turn.
pub fn each() -> impl Iterator<Item = SpinLockGuard<'static, List>> {
    TABLE.iter().map(|bucket| bucket.lock())
}

/// Locks the bucket that a waiter is in, or was in last; a requeue may move it while this waits.
pub fn lock_of(waiter: &Waiter) -> SpinLockGuard<'static, List> {
    loop {
        let bucket = waiter.bucket.load(SeqCst);
        let list = TABLE[bucket].lock();
        if waiter.bucket.load(SeqCst) == bucket {
            return list;
        }
    }
}

/// The locked buckets of two keys, which may be the same.
pub struct Pair {
    first: SpinLockGuard<'static, List>,
    second: Option<SpinLockGuard<'static, List>>,
}

impl Pair {
    /// Locks them in the order of their numbers.
    pub fn lock(first: Key, second: Key) -> Pair {
        let (a, b) = (first.hash(BUCKETS), second.hash(BUCKETS));
        if a == b {
            return Pair { first: TABLE[a].lock(), second: None };
        }
        let low = TABLE[a.min(b)].lock();
        let high = TABLE[a.max(b)].lock();
        let (first, second) = if a < b { (low, high) } else { (high, low) };
        Pair { first, second: Some(second) }
    }

    /// The list of the first key.
    pub fn first(&mut self) -> &mut List {
        &mut self.first
    }

    /// The list of the second key.
    pub fn second(&mut self) -> &mut List {
        self.second.as_deref_mut().unwrap_or(&mut self.first)
    }

    /// Moves a waiter from the first list to the second, where it has another key and role.
    ///
    /// # Safety
    /// The waiter is in the first list.
    pub unsafe fn move_over(&mut self, waiter: &Waiter, key: Key, role: Role) {
        // SAFETY: the caller's; both buckets are locked.
        unsafe {
            self.first().remove(waiter);
            (*waiter.place.get()).key = key;
            (*waiter.place.get()).role = role;
            waiter.bucket.store(key.hash(BUCKETS), SeqCst);
            self.second().push(waiter);
        }
    }
}
