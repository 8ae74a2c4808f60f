//! Futexes: sleeping on a word of user memory.
//!
//! A word is named by its address space and address, or, in a shared mapping, by its frame, so that processes that map the
//! same page meet.
//!
//! The waiter enters the queue *before* it reads the word. A waker changes the word first and looks at the queue then; so
//! either the waiter reads the new value, or the waker finds it. User memory is never touched while a queue is locked.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::marker::PhantomPinned;
use core::pin::{Pin, pin};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use linux_raw_sys::general::*;

use super::clock::Timespec;
use super::scheduler::{self, INTERRUPTIBLE, RUNNING};
use super::wait::{FOREVER, Timeout};
use super::{RestartBlock, Task, current, current_arc};
use crate::errno::{Errno, Result};
use crate::memory::frames::Frame;
use crate::memory::{Width, user};
use crate::sync::{SpinLock, SpinLockGuard};
use crate::time;

/// What names a futex. The frame is kept so that it is not reused while somebody waits on it.
struct Key {
    name: (u64, u64),
    _frame: Option<Frame>,
}

impl Key {
    fn new(address: u64, private: bool) -> Result<Key> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !user::is_user_range(address, 4) {
            return Err(Errno::EFAULT);
        }
        let mm = super::current_mm();
        if !private && let Some(frame) = mm.shared_frame(address)? {
            // Frames have physical addresses, which no address of an address space is equal to.
            return Ok(Key {
                name: (frame.addr(), address % 4096),
                _frame: Some(frame),
            });
        }
        Ok(Key {
            name: (ptr::from_ref(mm) as u64, address),
            _frame: None,
        })
    }

    fn bucket(&self) -> usize {
        bucket_of(self.name)
    }
}

const BUCKETS: usize = 64;

fn bucket_of(name: (u64, u64)) -> usize {
    // Fibonacci hashing: the upper bits of the product are well mixed.
    let mixed = (name.0 >> 4 ^ name.1 >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize
}

/// A list of waiters whose words hash alike.
struct Bucket {
    list: SpinLock<List>,
    /// Counts waiters that came, so that a requeue can tell whether one came since it read the word.
    arrivals: AtomicU64,
}

struct List {
    head: *const Waiter,
    tail: *const Waiter,
}

// SAFETY: the waiters are guarded by the bucket's lock and leave before their memory goes away.
unsafe impl Send for List {}

static TABLE: [Bucket; BUCKETS] = [const {
    Bucket {
        list: SpinLock::new(List {
            head: ptr::null(),
            tail: ptr::null(),
        }),
        arrivals: AtomicU64::new(0),
    }
}; BUCKETS];

/// A task that waits, on its own stack.
struct Waiter {
    task: Arc<Task>,
    bitset: u32,
    woken: AtomicBool,
    /// Changed with both the old and the new bucket locked.
    bucket: AtomicUsize,
    /// Guarded by the lock of the bucket it is in.
    place: UnsafeCell<Place>,
    _pinned: PhantomPinned,
}

#[derive(Clone, Copy)]
struct Place {
    name: (u64, u64),
    next: *const Waiter,
    before: *const Waiter,
}

impl List {
    /// # Safety
    /// The waiter is in no list and stays where it is until it is removed; this list is its bucket's.
    unsafe fn push(&mut self, waiter: &Waiter, name: (u64, u64)) {
        // SAFETY: the bucket is locked; listed waiters are alive.
        unsafe {
            *waiter.place.get() = Place {
                name,
                next: ptr::null(),
                before: self.tail,
            };
            match self.tail.as_ref() {
                Some(tail) => (*tail.place.get()).next = waiter,
                None => self.head = waiter,
            }
        }
        self.tail = waiter;
    }

    /// # Safety
    /// The waiter is in this list.
    unsafe fn remove(&mut self, waiter: &Waiter) {
        // SAFETY: as in `push`.
        unsafe {
            let Place { next, before, .. } = *waiter.place.get();
            match before.as_ref() {
                Some(before) => (*before.place.get()).next = next,
                None => self.head = next,
            }
            match next.as_ref() {
                Some(next) => (*next.place.get()).before = before,
                None => self.tail = before,
            }
        }
    }

    /// The first waiter for `name` after `start` (null for the head), with a bit of `bitset`.
    ///
    /// # Safety
    /// The bucket is locked for as long as the result is used.
    unsafe fn find<'a>(&self, name: (u64, u64), bitset: u32) -> Option<&'a Waiter> {
        let mut at = self.head;
        // SAFETY: listed waiters are alive while the bucket is locked.
        while let Some(waiter) = unsafe { at.as_ref() } {
            // SAFETY: as above.
            let place = unsafe { *waiter.place.get() };
            if place.name == name && waiter.bitset & bitset != 0 {
                return Some(waiter);
            }
            at = place.next;
        }
        None
    }

    /// Takes out and wakes up to `count` waiters.
    fn wake(&mut self, name: (u64, u64), count: usize, bitset: u32) -> usize {
        let mut woken = 0;
        while woken < count {
            // SAFETY: the list is locked (`&mut self`).
            let Some(waiter) = (unsafe { self.find(name, bitset) }) else {
                break;
            };
            // SAFETY: it is in the list. Once it sees `woken` its memory may go away, so that is the last touch.
            unsafe { self.remove(waiter) };
            let task = waiter.task.clone();
            waiter.woken.store(true, SeqCst);
            scheduler::wake(&task);
            woken += 1;
        }
        woken
    }
}

/// Locks the bucket that a waiter is in; a requeue may move it while this waits.
fn lock_bucket_of(waiter: &Waiter) -> SpinLockGuard<'static, List> {
    loop {
        let bucket = waiter.bucket.load(SeqCst);
        let list = TABLE[bucket].list.lock();
        if waiter.bucket.load(SeqCst) == bucket {
            return list;
        }
    }
}

/// FUTEX_WAIT: ERESTARTSYS if a signal comes first, EAGAIN if the word is not what was expected.
fn wait(address: u64, private: bool, expected: u32, deadline: u64, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::new(address, private)?;
    let waiter = pin!(Waiter {
        task: current_arc(),
        bitset,
        woken: AtomicBool::new(false),
        bucket: AtomicUsize::new(key.bucket()),
        place: UnsafeCell::new(Place {
            name: key.name,
            next: ptr::null(),
            before: ptr::null()
        }),
        _pinned: PhantomPinned,
    });
    let waiter = Pin::as_ref(&waiter).get_ref();
    {
        let bucket = &TABLE[key.bucket()];
        let mut list = bucket.list.lock();
        bucket.arrivals.fetch_add(1, SeqCst);
        // SAFETY: pinned, new, and taken out below before it can go away.
        unsafe { list.push(waiter, key.name) };
    }
    let result = match user::load_u32(address) {
        Ok(value) if value == expected => sleep(waiter, deadline),
        Ok(_) => Err(Errno::EAGAIN),
        Err(error) => Err(error),
    };
    let list = &mut *lock_bucket_of(waiter);
    if waiter.woken.load(SeqCst) {
        // A waker has taken it out and counts on it. Whatever else happened, the wake-up is what is reported.
        return Ok(0);
    }
    // SAFETY: not woken, so it is still in the list.
    unsafe { list.remove(waiter) };
    result
}

fn sleep(waiter: &Waiter, deadline: u64) -> Result<usize> {
    let timeout = Timeout::new(deadline);
    let result = loop {
        scheduler::set_state(INTERRUPTIBLE);
        if waiter.woken.load(SeqCst) {
            break Ok(0);
        }
        if current().signal_pending() {
            break Err(Errno::ERESTARTSYS);
        }
        if timeout.passed() {
            break Err(Errno::ETIMEDOUT);
        }
        scheduler::schedule();
    };
    scheduler::set_state(RUNNING);
    result
}

/// Wakes up to `count` waiters of a word in the current address space, private or not. For the kernel itself.
pub fn wake(address: u64, count: usize) {
    for private in [true, false] {
        if let Ok(key) = Key::new(address, private)
            && (private || key._frame.is_some())
        {
            TABLE[key.bucket()].list.lock().wake(key.name, count, u32::MAX);
        }
    }
}

fn wake_key(key: &Key, count: usize, bitset: u32) -> usize {
    TABLE[key.bucket()].list.lock().wake(key.name, count, bitset)
}

/// Wakes `wake` waiters of one word and moves `requeue` more to another, if the first still has the value `expected`.
fn requeue(
    from: u64,
    to: u64,
    private: bool,
    wake: usize,
    requeue: usize,
    expected: Option<u32>,
) -> Result<usize> {
    let (from_key, to_key) = (Key::new(from, private)?, Key::new(to, private)?);
    let (from_bucket, to_bucket) = (from_key.bucket(), to_key.bucket());
    loop {
        let arrivals = TABLE[from_bucket].arrivals.load(SeqCst);
        if let Some(expected) = expected
            && user::load_u32(from)? != expected
        {
            return Err(Errno::EAGAIN);
        }
        // Two buckets are locked in the order of their numbers.
        let mut first = TABLE[from_bucket.min(to_bucket)].list.lock();
        let mut second = (from_bucket != to_bucket).then(|| TABLE[from_bucket.max(to_bucket)].list.lock());
        if expected.is_some() && TABLE[from_bucket].arrivals.load(SeqCst) != arrivals {
            // Somebody came after the word was read, perhaps with another value in it: read it again.
            continue;
        }
        let (from_list, mut to_list) = match &mut second {
            None => (&mut *first, None),
            Some(second) if from_bucket < to_bucket => (&mut *first, Some(&mut **second)),
            Some(second) => (&mut **second, Some(&mut *first)),
        };
        let mut done = from_list.wake(from_key.name, wake, u32::MAX);
        if from_key.name == to_key.name {
            return Ok(done);
        }
        for _ in 0..requeue {
            // SAFETY: both buckets are locked; the waiter is in the first.
            unsafe {
                let Some(waiter) = from_list.find(from_key.name, u32::MAX) else {
                    break;
                };
                from_list.remove(waiter);
                waiter.bucket.store(to_bucket, SeqCst);
                to_list
                    .as_deref_mut()
                    .unwrap_or(from_list)
                    .push(waiter, to_key.name);
            }
            done += 1;
        }
        TABLE[to_bucket].arrivals.fetch_add(1, SeqCst);
        return Ok(done);
    }
}

/// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and of the second if its old value says so.
fn wake_op(
    first: u64,
    second: u64,
    private: bool,
    wake: usize,
    wake_second: usize,
    op: u32,
) -> Result<usize> {
    let (first_key, second_key) = (Key::new(first, private)?, Key::new(second, private)?);
    // Sign-extended 12-bit fields.
    let (op_argument, compare_argument) = ((op as i32) << 8 >> 20, (op as i32) << 20 >> 20);
    let argument = if op & 0x8000_0000 != 0 {
        1u32 << (op_argument & 31)
    } else {
        op_argument as u32
    };
    let apply = |old: u32| match op >> 28 & 7 {
        FUTEX_OP_SET => Ok(argument),
        FUTEX_OP_ADD => Ok(old.wrapping_add(argument)),
        FUTEX_OP_OR => Ok(old | argument),
        FUTEX_OP_ANDN => Ok(old & !argument),
        FUTEX_OP_XOR => Ok(old ^ argument),
        _ => Err(Errno::ENOSYS),
    };
    let mut old = user::load_u32(second)?;
    loop {
        let seen = user::atomic_cmpxchg_u32(second, old, apply(old)?)?;
        if seen == old {
            break;
        }
        old = seen;
    }
    let (old, compare) = (old as i32, compare_argument);
    let wakes_second = match op >> 24 & 15 {
        FUTEX_OP_CMP_EQ => old == compare,
        FUTEX_OP_CMP_NE => old != compare,
        FUTEX_OP_CMP_LT => old < compare,
        FUTEX_OP_CMP_LE => old <= compare,
        FUTEX_OP_CMP_GT => old > compare,
        FUTEX_OP_CMP_GE => old >= compare,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = wake_key(&first_key, wake, u32::MAX);
    if wakes_second {
        woken += wake_key(&second_key, wake_second, u32::MAX);
    }
    Ok(woken)
}

/// The deadline of a wait: FUTEX_WAIT counts from now, FUTEX_WAIT_BITSET names a time of its clock.
fn deadline(width: Width, address: u64, command: u32, realtime: bool) -> Result<u64> {
    if address == 0 {
        return Ok(FOREVER);
    }
    let ns = Timespec::read(width, address)?.to_ns()?;
    Ok(if command == FUTEX_WAIT {
        time::now().saturating_add(ns)
    } else if realtime {
        time::now().saturating_add(ns.saturating_sub(time::realtime()))
    } else {
        ns
    })
}

/// futex(2).
pub fn sys_futex(
    address: u64,
    op: u64,
    value: u64,
    timeout: u64,
    address2: u64,
    value3: u64,
) -> Result<usize> {
    futex(Width::Bits64, address, op, value, timeout, address2, value3)
}

/// futex(2) with a `timespec` of this width.
pub fn futex(
    width: Width,
    address: u64,
    op: u64,
    value: u64,
    timeout: u64,
    address2: u64,
    value3: u64,
) -> Result<usize> {
    let op = op as u32;
    let private = op & FUTEX_PRIVATE_FLAG != 0;
    let realtime = op & FUTEX_CLOCK_REALTIME != 0;
    let command = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    if realtime && !matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET) {
        return Err(Errno::ENOSYS);
    }
    // Counts: Linux takes them as int; one waiter is woken even for 0.
    let count = (value as i32).max(1) as usize;
    let second_count = timeout as i32;
    let (value32, value3) = (value as u32, value3 as u32);
    match command {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => {
            let bitset = if command == FUTEX_WAIT { u32::MAX } else { value3 };
            let deadline = deadline(width, timeout, command, realtime)?;
            let result = wait(address, private, value32, deadline, bitset);
            if result == Err(Errno::ERESTARTSYS) && deadline != FOREVER {
                *current().restart.lock() = RestartBlock {
                    function: |[address, private, value, deadline, bitset, _]| {
                        let result = wait(address, private != 0, value as u32, deadline, bitset as u32);
                        if result == Err(Errno::ERESTARTSYS) {
                            Err(Errno::ERESTART_RESTARTBLOCK)
                        } else {
                            result
                        }
                    },
                    args: [
                        address,
                        private.into(),
                        value32.into(),
                        deadline,
                        bitset.into(),
                        0,
                    ],
                };
                return Err(Errno::ERESTART_RESTARTBLOCK);
            }
            result
        }
        FUTEX_WAKE => Ok(wake_key(&Key::new(address, private)?, count, u32::MAX)),
        FUTEX_WAKE_BITSET if value3 == 0 => Err(Errno::EINVAL),
        FUTEX_WAKE_BITSET => Ok(wake_key(&Key::new(address, private)?, count, value3)),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            if (value as i32) < 0 || second_count < 0 {
                return Err(Errno::EINVAL);
            }
            let expected = (command == FUTEX_CMP_REQUEUE).then_some(value3);
            requeue(
                address,
                address2,
                private,
                value as usize,
                second_count as usize,
                expected,
            )
        }
        FUTEX_WAKE_OP => wake_op(
            address,
            address2,
            private,
            count,
            second_count.max(1) as usize,
            value3,
        ),
        // Priority inheritance needs priorities.
        _ => Err(Errno::ENOSYS),
    }
}
