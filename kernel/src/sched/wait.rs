//! Wait queues: how a thread sleeps until something happens.
//!
//! The waiter's node is on its own stack and in the queue's list while it waits; no memory is allocated, so waking is
//! allowed in interrupt handlers. See `scheduler` for why no wake-up is lost.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::marker::PhantomPinned;
use core::pin::{Pin, pin};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::*};

use intrusive_collections::{LinkedList, LinkedListLink, UnsafeRef, intrusive_adapter};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::sched::callbacks::callbacks;
use crate::sched::scheduler;
use crate::sched::state::{INTERRUPTIBLE, KILLABLE, RUNNING, UNINTERRUPTIBLE};
use crate::sched::thread::{Thread, current};
use crate::sched::timer;

/// No deadline.
pub const FOREVER: u64 = u64::MAX;

/// A deadline `timeout` nanoseconds from now.
pub fn deadline_after(timeout: u64) -> u64 {
    time::now().saturating_add(timeout).min(FOREVER - 1)
}

/// A list of threads that wait for the same thing.
pub struct WaitQueue {
    list: SpinLock<LinkedList<InQueue>>,
}

/// One waiter in one queue.
struct Node {
    /// It is alive while the node is in a list: it is what takes the node out.
    thread: &'static Thread,
    /// Chosen by `wake_one` or reached by `wake_all`, and not yet looking again.
    woken: AtomicBool,
    /// Pollers are told of everything and use nothing up, so `wake_one` goes on to the next.
    poller: bool,
    /// Guarded by the list's lock.
    link: LinkedListLink,
    _pinned: PhantomPinned,
}

intrusive_adapter!(InQueue = UnsafeRef<Node>: Node { link => LinkedListLink });

// SAFETY: the link is touched with the list locked alone; everything else is Sync on its own.
unsafe impl Sync for Node {}

impl Node {
    fn new(poller: bool) -> Self {
        Node {
            thread: current(),
            woken: AtomicBool::new(false),
            poller,
            link: LinkedListLink::new(),
            _pinned: PhantomPinned,
        }
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        WaitQueue { list: SpinLock::new(LinkedList::new(InQueue::NEW)) }
    }

    /// Sleeps until `condition` gives a value. ERESTARTSYS if a signal comes first.
    pub fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait(INTERRUPTIBLE, FOREVER, condition)
    }

    /// As [`Self::wait_until`], but no longer than until `deadline` ([`time::now`]); ETIMEDOUT then.
    pub fn wait_until_timeout<T>(&self, deadline: u64, condition: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait(INTERRUPTIBLE, deadline, condition)
    }

    /// Sleeps until `condition` gives a value; EINTR only if the thread is being killed.
    pub fn wait_killable<T>(&self, condition: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait(KILLABLE, FOREVER, condition)
    }

    /// Sleeps until `condition` gives a value, whatever happens.
    pub fn wait_uninterruptible<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        match self.wait(UNINTERRUPTIBLE, FOREVER, condition) {
            Ok(value) => value,
            Err(_) => unreachable!("neither signals nor time end this sleep"),
        }
    }

    fn wait<T>(&self, state: u32, deadline: u64, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        let node = pin!(Node::new(false));
        let node = self.enter(node.as_ref());
        let timeout = Timeout::new(deadline);
        let result = loop {
            node.0.woken.store(false, Relaxed);
            scheduler::set_state(state);
            if let Some(value) = condition() {
                break Ok(value);
            }
            if state == INTERRUPTIBLE && current().signal_pending() {
                break Err(Errno::ERESTARTSYS);
            }
            if state == KILLABLE && callbacks().is_being_killed(current()) {
                break Err(Errno::EINTR);
            }
            if timeout.passed() {
                break Err(Errno::ETIMEDOUT);
            }
            scheduler::schedule();
        };
        scheduler::set_state(RUNNING);
        let unused = result.is_err();
        node.leave(unused);
        result
    }

    #[inline]
    fn enter<'a>(&'a self, node: Pin<&'a Node>) -> Entered<'a> {
        let node = node.get_ref();
        // SAFETY: pinned, and `Entered` takes it out before it can go away.
        self.list.lock().push_back(unsafe { UnsafeRef::from_raw(node) });
        Entered(node, self)
    }

    /// Wakes all waiters. From any context.
    pub fn wake_all(&self) {
        self.wake_up_to(usize::MAX);
    }

    /// Wakes the waiter that has waited longest and has not been woken yet, and all pollers. From any context.
    pub fn wake_one(&self) {
        self.wake_up_to(1);
    }

    fn wake_up_to(&self, mut count: usize) {
        let list = self.list.lock();
        for node in list.iter() {
            if node.poller {
                node.woken.store(true, Release);
                scheduler::wake(node.thread);
            } else if count != 0 && !node.woken.swap(true, AcqRel) {
                scheduler::wake(node.thread);
                count -= 1;
            }
        }
    }

    /// Adds the poller to the waiters, once for each [`PollTable`] and queue. The queue must outlive the table: the
    /// poller holds the file that owns the queue.
    pub fn register(&self, table: &PollTable) {
        table.add(self);
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for WaitQueue {
    fn drop(&mut self) {
        assert!(self.list.get_mut().is_empty(), "a wait queue goes away while threads wait on it");
    }
}

/// A node that is in its queue's list.
struct Entered<'a>(&'a Node, &'a WaitQueue);

impl Entered<'_> {
    /// Takes the node out. If it was woken by `wake_one` and the waiter did not use that, the next waiter gets it.
    #[inline]
    fn leave(self, unused: bool) {
        // SAFETY: `enter` put it there.
        unsafe { self.1.list.lock().cursor_mut_from_ptr(self.0).remove() };
        if unused && self.0.woken.load(Acquire) {
            self.1.wake_one();
        }
    }
}

/// Wakes the current thread at a deadline.
pub struct Timeout {
    deadline: u64,
    timer: Option<timer::TimerId>,
}

impl Timeout {
    /// `deadline` as of [`time::now`]; [`FOREVER`] for none.
    pub fn new(deadline: u64) -> Self {
        let timer = (deadline != FOREVER && deadline > time::now()).then(|| {
            let thread = current();
            // Counted back by whoever sees to it that the timer never runs again: until then the thread is kept.
            thread.timeouts.fetch_add(1, Relaxed);
            timer::add_timer(deadline, wake_sleeper, ptr::from_ref(thread) as usize, 0)
        });
        Timeout { deadline, timer }
    }

    /// Whether the time has come. Asked after the state is set: the timer's wake-up comes after the time.
    pub fn passed(&self) -> bool {
        self.deadline != FOREVER && time::now() >= self.deadline
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take()
            && timer::cancel_timer(timer)
        {
            current().timeouts.fetch_sub(1, Release);
        }
    }
}

/// The timer's part. It may be late, and the thread asleep for another reason: a wake-up too many is harmless.
fn wake_sleeper(thread: usize, _: usize) {
    // SAFETY: a thread that has ended is kept until all its timers are counted back.
    let thread = unsafe { &*(thread as *const Thread) };
    scheduler::wake(thread);
    thread.timeouts.fetch_sub(1, Release);
}

/// Sleeps until `deadline`; ERESTARTSYS if a signal comes first.
pub fn sleep_until(deadline: u64) -> Result<()> {
    sleep(INTERRUPTIBLE, deadline, || match current().signal_pending() {
        true => Err(Errno::ERESTARTSYS),
        false => Ok(()),
    })
}

/// Sleeps until `deadline`; EINTR if the thread is being killed.
pub fn sleep_until_killable(deadline: u64) -> Result<()> {
    sleep(KILLABLE, deadline, || match callbacks().is_being_killed(current()) {
        true => Err(Errno::EINTR),
        false => Ok(()),
    })
}

fn sleep(state: u32, deadline: u64, disturbed: impl Fn() -> Result<()>) -> Result<()> {
    let timeout = Timeout::new(deadline);
    let result = loop {
        scheduler::set_state(state);
        if timeout.passed() {
            break Ok(());
        }
        if let Err(error) = disturbed() {
            break Err(error);
        }
        scheduler::schedule();
    };
    scheduler::set_state(RUNNING);
    result
}

/// Something that happens once.
pub struct Completion {
    done: AtomicBool,
    waiters: WaitQueue,
}

impl Completion {
    /// Not done.
    pub const fn new() -> Self {
        Completion { done: AtomicBool::new(false), waiters: WaitQueue::new() }
    }

    /// It has happened.
    pub fn complete(&self) {
        self.done.store(true, SeqCst);
        self.waiters.wake_all();
    }

    /// Waits for it; EINTR if the thread is killed first.
    pub fn wait_killable(&self) -> Result<()> {
        self.waiters.wait_killable(|| self.done.load(SeqCst).then_some(()))
    }
}

impl Default for Completion {
    fn default() -> Self {
        Self::new()
    }
}

/// A poller's place in the queues of everything it polls.
///
/// Used as: `loop { look at each file, registering; if something is ready, return; table.wait(deadline)?; }`. Only the
/// first round registers.
pub struct PollTable {
    places: RefCell<Vec<Place>>,
    registering: Cell<bool>,
}

/// A poller's node and the queue it is in.
struct Place {
    node: Pin<Box<Node>>,
    queue: *const WaitQueue,
}

impl PollTable {
    /// For the current thread.
    pub fn new() -> Self {
        PollTable { places: RefCell::new(Vec::new()), registering: Cell::new(true) }
    }

    fn add(&self, queue: &WaitQueue) {
        if !self.registering.get() {
            return;
        }
        let node = Box::pin(Node::new(true));
        // SAFETY: boxed and pinned; taken out in `drop`.
        queue.list.lock().push_back(unsafe { UnsafeRef::from_raw(&raw const *node) });
        self.places.borrow_mut().push(Place { node, queue });
    }

    /// Sleeps until one of the queues was woken since the last call (or since registering). ETIMEDOUT at the deadline;
    /// ERESTARTSYS if a signal comes first.
    pub fn wait(&self, deadline: u64) -> Result<()> {
        self.registering.set(false);
        let timeout = Timeout::new(deadline);
        let result = loop {
            scheduler::set_state(INTERRUPTIBLE);
            let mut woken = false;
            for place in self.places.borrow().iter() {
                woken |= place.node.woken.swap(false, AcqRel);
            }
            if woken {
                break Ok(());
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
}

impl Default for PollTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        for Place { node, queue } in self.places.get_mut() {
            // SAFETY: the queue is alive (`register`) and the node is in it.
            unsafe { (**queue).list.lock().cursor_mut_from_ptr(&raw const **node).remove() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_for_ever() {
        assert_eq!(deadline_after(u64::MAX), FOREVER - 1);
        assert!(deadline_after(1000) >= 1000);
    }
}
