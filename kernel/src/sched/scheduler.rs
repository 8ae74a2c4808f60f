//! The scheduler: one run queue, first in first out, slices of 4 ms; a task that wakes up and has run less than another gets
//! that one's CPU.
//!
//! One lock guards the queue and what the scheduler knows of every task ([`Entry`]). It is held across the context
//! switch, so whoever holds it sees each task either on a CPU, or in the queue, or asleep with its registers saved.
//!
//! **The sleep protocol.** A sleeper sets its state ([`set_state`]), then checks its condition, then calls [`schedule`].
//! A waker makes the condition true, then calls [`wake`]. State and condition are each written before the other is read
//! (both sides use locked instructions), so one of the two sees the other. [`schedule`] decides under the lock, where
//! [`wake`] changes the state: a wake-up that comes before the decision makes the sleep not happen. An interruptible
//! sleep does not begin while a signal is pending: that is decided under the same lock, after which the sender's wake
//! finds the sleeper.
//!
//! **Wake-up preemption.** A task that wakes up while no CPU is idle is compared with the running ones by lag: how much less
//! CPU time each has had than its share of the time that passed. The share is one of as many as want a CPU and one more, so
//! that all who preempt together leave some for those who never sleep; and lag is bounded ([`CREDIT`]), so that nobody catches
//! up on years. Who is behind another by more than [`LAG`] goes to the head of the queue, and the other to its end. So a
//! task that has used up what it gained waits for its turn as all others do, and those get theirs.
//!
//! The scheduler owns one reference to each task from [`start`] until the task has ended and its stack is left.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use portcullis::work::ExitWork;
use portcullis::x86_64::halt::wait_for_interrupt;
use x86_64::instructions::interrupts;

use crate::machine::cpu::MAX_CPUS;
use crate::machine::sync::SpinLock;
use crate::machine::{cpu, sync, time};
use crate::sched::{rcu, switch};
use crate::task::{Task, current};
use crate::work::trace_points;

/// On a CPU or in the run queue.
pub const RUNNING: u32 = 0;
/// Asleep until woken or signalled.
pub const INTERRUPTIBLE: u32 = 1;
/// Asleep until woken.
pub const UNINTERRUPTIBLE: u32 = 2;
/// Stopped by a job-control signal.
pub const STOPPED: u32 = 4;
/// Stopped for a tracer.
pub const TRACED: u32 = 8;
/// Asleep until woken or killed.
pub const KILLABLE: u32 = 0x10;
/// Ended; never runs again.
pub const DEAD: u32 = 0x20;
/// Not started yet.
pub const NEW: u32 = 0x40;

/// What [`wake`] wakes.
pub const NORMAL: u32 = INTERRUPTIBLE | UNINTERRUPTIBLE | KILLABLE;

/// How long a task runs while others wait, in nanoseconds.
pub const SLICE: u64 = 4_000_000;

/// How much further behind than another a task must be to get its CPU at a wake-up. Two that wake each other in turn are not.
const LAG: i64 = 500_000;
/// How far behind, or ahead, a task can be.
const CREDIT: i64 = SLICE as i64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Neither on a CPU nor in the queue.
    Asleep,
    Queued,
    OnCpu,
}

/// What the scheduler keeps in each task. Guarded by the run-queue lock.
pub struct Entry(UnsafeCell<Inner>);

struct Inner {
    stack_pointer: u64,
    place: Place,
    next: *const Task,
    /// How far behind its share it was when it was last compared, when that was, and what CPU time it had had.
    lag: i64,
    seen: u64,
    used: u64,
}

impl Entry {
    /// For a task whose first switch pops what [`switch::prepare_stack`] pushed.
    pub fn new(stack_pointer: u64) -> Self {
        Entry(UnsafeCell::new(Inner {
            stack_pointer,
            place: Place::Asleep,
            next: ptr::null(),
            lag: 0,
            seen: 0,
            used: 0,
        }))
    }
}

/// A first-in-first-out list through `Entry::next`.
struct RunQueue {
    head: *const Task,
    tail: *const Task,
    /// CPUs that run their idle task and have not been sent for yet.
    idle: u64,
}

// SAFETY: the pointers are to tasks that the scheduler's reference keeps alive.
unsafe impl Send for RunQueue {}

static RUN_QUEUE: SpinLock<RunQueue> = SpinLock::new(RunQueue { head: ptr::null(), tail: ptr::null(), idle: 0 });
/// Length of the queue, readable without the lock.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// Each CPU's idle task.
static IDLE: [AtomicPtr<Task>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

impl RunQueue {
    /// The scheduler's part of a task. Having the queue by `&mut` proves the lock is held.
    fn entry<'a>(&'a mut self, task: &'a Task) -> &'a mut Inner {
        // SAFETY: guarded by the run-queue lock, which the caller's `&mut self` shows to be held.
        unsafe { &mut *task.sched.0.get() }
    }

    #[inline]
    fn push(&mut self, task: &Task) {
        let entry = self.entry(task);
        entry.place = Place::Queued;
        entry.next = ptr::null();
        if self.tail.is_null() {
            self.head = task;
        } else {
            // SAFETY: a queued task is alive; guarded by the lock.
            unsafe { (*(*self.tail).sched.0.get()).next = task };
        }
        self.tail = task;
        WAITING.store(WAITING.load(Relaxed) + 1, Relaxed);
    }

    /// Puts it in front of all others.
    fn push_front(&mut self, task: &Task) {
        let head = self.head;
        let entry = self.entry(task);
        entry.place = Place::Queued;
        entry.next = head;
        if head.is_null() {
            self.tail = task;
        }
        self.head = task;
        WAITING.store(WAITING.load(Relaxed) + 1, Relaxed);
    }

    /// How far a task is behind one of `shares` equal shares of the time up to now.
    fn lag(&mut self, task: &Task, now: u64, shares: u64) -> i64 {
        let used = task.usage.total();
        let entry = self.entry(task);
        let share = (now.saturating_sub(entry.seen) / shares) as i64;
        let had = used.saturating_sub(entry.used) as i64;
        entry.lag = entry.lag.saturating_add(share.saturating_sub(had)).clamp(-CREDIT, CREDIT);
        (entry.seen, entry.used) = (now, used);
        entry.lag
    }

    /// Queues a task that has woken up while no CPU that it may run on is idle: in front, and in place of the task that is
    /// furthest ahead, if it is behind that one.
    #[cold]
    fn push_woken(&mut self, task: &Task) {
        let affinity = task.affinity.load(Relaxed);
        let now = time::now();
        let shares = WAITING.load(Relaxed) as u64 + 3;
        let mut furthest: Option<(i64, &Task)> = None;
        for cpu in (0..cpu::count()).filter(|cpu| affinity & 1 << cpu != 0) {
            // SAFETY: a CPU changes its task with the queue's lock held, which we hold: this one is on the CPU, and alive.
            let Some(other) = (unsafe { cpu::get(cpu).current.load(Relaxed).as_ref() }) else {
                continue;
            };
            if ptr::eq(IDLE[cpu].load(Relaxed), other) {
                // It has been sent for, and looks into the queue.
                return self.push(task);
            }
            let lag = self.lag(other, now, shares);
            if furthest.is_none_or(|(least, _)| lag < least) {
                furthest = Some((lag, other));
            }
        }
        let lag = self.lag(task, now, shares);
        match furthest {
            Some((least, other)) if lag.saturating_sub(least) > LAG => {
                self.push_front(task);
                other.raise(ExitWork::NEED_RESCHED);
            }
            _ => self.push(task),
        }
    }

    /// Takes the first task that may run on `cpu`.
    #[inline]
    fn take(&mut self, cpu: usize) -> Option<&'static Task> {
        let mut before: *const Task = ptr::null();
        let mut at = self.head;
        while !at.is_null() {
            // SAFETY: a queued task is alive, and stays so after it is taken (the scheduler's reference).
            let task: &'static Task = unsafe { &*at };
            let next = self.entry(task).next;
            if task.affinity.load(Relaxed) & 1 << cpu != 0 {
                if before.is_null() {
                    self.head = next;
                } else {
                    // SAFETY: as above.
                    unsafe { (*(*before).sched.0.get()).next = next };
                }
                if self.tail == at {
                    self.tail = before;
                }
                WAITING.store(WAITING.load(Relaxed) - 1, Relaxed);
                return Some(task);
            }
            before = at;
            at = next;
        }
        None
    }

    /// Whether a CPU that the task may run on is idle.
    fn has_idle(&self, task: &Task) -> bool {
        self.idle & task.affinity.load(Relaxed) != 0
    }

    /// Sends an idle CPU for a task that has just been queued.
    fn kick_idle(&mut self, task: &Task) {
        let candidates = self.idle & task.affinity.load(Relaxed);
        if candidates == 0 {
            return;
        }
        let cpu = candidates.trailing_zeros() as usize;
        self.idle &= !(1 << cpu);
        // SAFETY: set by `init_cpu` before the CPU's bit in `idle` can be; idle tasks live for ever.
        unsafe { (*IDLE[cpu].load(Relaxed)).raise(ExitWork::NEED_RESCHED) };
    }
}

/// Sets the current task's state. Anything but `RUNNING` announces a sleep: see the protocol above.
#[inline]
pub fn set_state(state: u32) {
    // The exchange orders the store before the caller's reads of its condition.
    current().state.swap(state, SeqCst);
}

/// A task's state, for information.
pub fn state(task: &Task) -> u32 {
    task.state.load(Relaxed)
}

/// Makes a sleeping task runnable. Returns whether it slept (or was about to).
pub fn wake(task: &Task) -> bool {
    wake_state(task, NORMAL)
}

/// Wakes `task` if its state is one of `states`. From any context; takes the run-queue lock.
pub fn wake_state(task: &Task, states: u32) -> bool {
    let mut queue = RUN_QUEUE.lock();
    if task.state.load(Relaxed) & states == 0 {
        return false;
    }
    task.state.store(RUNNING, Relaxed);
    if queue.entry(task).place == Place::Asleep {
        if queue.has_idle(task) || states == NEW || !task.policy.preempts() {
            queue.push(task);
            queue.kick_idle(task);
        } else {
            queue.push_woken(task);
        }
    }
    true
}

/// Whether a task is off its CPU and nobody has woken it.
pub fn is_asleep(task: &Task) -> bool {
    RUN_QUEUE.lock().entry(task).place == Place::Asleep
}

/// Runs `f` if a task is asleep, and keeps it asleep meanwhile. With the run-queue lock held: `f` must be short, and call nothing
/// here.
pub fn while_asleep<T>(task: &Task, f: impl FnOnce() -> T) -> Option<T> {
    let mut queue = RUN_QUEUE.lock();
    (queue.entry(task).place == Place::Asleep).then(f)
}

/// Waits until a task that has decided to sleep, and that nobody else wakes, is off its CPU, with all its registers saved.
pub fn wait_until_asleep(task: &Task) {
    while !is_asleep(task) {
        yield_now();
        core::hint::spin_loop();
    }
}

/// Makes a new task runnable. From here on the scheduler holds a reference to it.
pub fn start(task: Arc<Task>) {
    let task = Arc::into_raw(task);
    // SAFETY: just leaked, so it lives until `finish_switch` takes the reference back.
    wake_state(unsafe { &*task }, NEW);
}

/// Gives the CPU to the next task. If the current state is not `RUNNING`, sleeps until woken; returns at once if the
/// wake-up has already come, or if the sleep is interruptible and a signal is pending.
///
/// Not while holding a spin lock.
#[inline]
pub fn schedule() {
    reschedule(false);
}

/// Lets others run that wait for a CPU.
pub fn yield_now() {
    if WAITING.load(Relaxed) != 0 {
        schedule();
    }
}

/// On the way from an interrupt back to kernel code whose task is owed a reschedule: interrupts off, no lock held.
/// The state is left alone: a task that is about to sleep has not checked its condition yet.
pub fn preempt_from_interrupt() {
    let task = current();
    // The idle loop looks for itself, after it has told the context tracking that it is no longer idle.
    if !is_idle(task) {
        reschedule(true);
    }
}

/// Restricts a task to some CPUs, and gets it there if it runs or waits for a CPU now.
pub fn set_affinity(task: &Task, mask: u64) {
    let mut queue = RUN_QUEUE.lock();
    task.affinity.store(mask, Relaxed);
    match queue.entry(task).place {
        Place::Asleep => {}
        Place::Queued => queue.kick_idle(task),
        Place::OnCpu => task.raise(ExitWork::NEED_RESCHED),
    }
}

fn is_idle(task: &Task) -> bool {
    ptr::eq(IDLE[cpu::id()].load(Relaxed), task)
}

fn reschedule(preempted: bool) {
    let interrupts_on = interrupts::are_enabled();
    interrupts::disable();
    debug_assert_eq!(sync::preempt_count(), 0, "sleeping while holding a spin lock");
    let prev = current();
    let cpu = cpu::id();
    let mut queue = RUN_QUEUE.lock();
    prev.work.take(ExitWork::NEED_RESCHED);
    let idle = IDLE[cpu].load(Relaxed);
    let runnable = preempted || {
        let state = prev.state.load(Relaxed);
        state == RUNNING || {
            let interrupted = state & INTERRUPTIBLE != 0 && prev.signal_pending();
            if interrupted {
                prev.state.store(RUNNING, Relaxed);
            }
            interrupted
        }
    };
    if ptr::eq(prev, idle) {
        queue.entry(prev).place = Place::Asleep;
    } else if runnable {
        queue.push(prev);
        if prev.affinity.load(Relaxed) & 1 << cpu == 0 {
            queue.kick_idle(prev);
        }
    } else {
        queue.entry(prev).place = Place::Asleep;
    }
    let next = match queue.take(cpu) {
        Some(next) => {
            queue.idle &= !(1 << cpu);
            next
        }
        None => {
            queue.idle |= 1 << cpu;
            // SAFETY: set by `init_cpu` before this CPU schedules; idle tasks live for ever.
            unsafe { &*idle }
        }
    };
    queue.entry(next).place = Place::OnCpu;
    if ptr::eq(prev, next) {
        drop(queue);
    } else {
        let now = time::now();
        trace_points::switch(next);
        if prev.hooks.on_switch.load(Relaxed) != 0 {
            crate::work::hooks::switch(prev, next);
        }
        prev.usage.switched_out(now, runnable);
        next.usage.switched_in(now);
        rcu::note_switch(cpu);
        if ptr::eq(prev, idle) {
            time::start_ticking();
        }
        let save = &raw mut queue.entry(prev).stack_pointer;
        let load = queue.entry(next).stack_pointer;
        // The lock goes over to the next task, which releases it in `finish_switch`.
        core::mem::forget(queue);
        // SAFETY: interrupts are off, the run-queue lock is held, `next` is not on any CPU, and its stack holds what an
        // earlier switch or `prepare_stack` saved there.
        unsafe {
            let last = switch::switch_to(prev, next, save, load);
            finish_switch(last);
        }
    }
    if interrupts_on {
        interrupts::enable();
    }
}

/// The other half of a switch, on the new task's stack: releases the lock that came with it, and lets go of the task that
/// was left if that one has ended.
///
/// # Safety
/// Once after each switch, with interrupts off; `last` is the task that was left.
pub unsafe fn finish_switch(last: *const Task) {
    // A task that was preempted on its last steps is in the queue and not dead yet.
    // SAFETY: `last` is kept alive by the scheduler's reference; the lock is held.
    let dead = unsafe { (*last).state.load(Relaxed) == DEAD && (*(*last).sched.0.get()).place == Place::Asleep };
    // SAFETY: `reschedule` on the other stack locked it and forgot the guard.
    unsafe { RUN_QUEUE.force_unlock() };
    if dead {
        // SAFETY: the reference that `start` leaked. Nobody will run on that stack again: this code runs on another.
        drop(unsafe { Arc::from_raw(last) });
    }
}

/// The timer interrupt's part, once per slice on a CPU that is not idle.
pub fn tick(from_user: bool) {
    let task = current();
    if is_idle(task) {
        return;
    }
    task.usage.tick(from_user);
    TICKS[usize::from(!from_user)].fetch_add(1, Relaxed);
    crate::task::timers::tick(task);
    if WAITING.load(Relaxed) != 0 {
        task.raise(ExitWork::NEED_RESCHED);
    }
}

/// Whether this CPU has something to run, so that the timer must go on ticking.
pub fn busy() -> bool {
    !is_idle(current())
}

/// How many ticks of all CPUs have hit user mode, and the kernel.
static TICKS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// The time of all CPUs in user mode and in the kernel, as the ticks saw it, in nanoseconds.
pub fn sampled_times() -> [u64; 2] {
    TICKS.each_ref().map(|ticks| ticks.load(Relaxed) * SLICE)
}

/// How long all CPUs together have had nothing to do, in nanoseconds.
pub fn idle_time() -> u64 {
    // SAFETY: idle tasks live for ever.
    let tasks = IDLE.iter().filter_map(|task| unsafe { task.load(Acquire).as_ref() });
    tasks.map(|task| task.usage.total()).sum()
}

/// Number of tasks on CPUs and in the queue (for /proc/loadavg and sysinfo).
pub fn runnable() -> usize {
    let idle = RUN_QUEUE.lock().idle.count_ones() as usize;
    WAITING.load(Relaxed) + cpu::count() - idle.min(cpu::count())
}

/// Gives this CPU its idle task: the code that is running now, on the boot stack. Before anything can sleep.
pub fn init_cpu() {
    crate::sched::fpu::init_cpu();
    let idle = crate::task::process::idle_task().expect("no memory for an idle task");
    let task = Arc::into_raw(idle).cast_mut();
    IDLE[cpu::id()].store(task, Release);
    // SAFETY: just made, lives for ever.
    unsafe {
        (*task).state.store(RUNNING, Relaxed);
        switch::become_current(&*task);
    }
}

/// What a CPU does when it has nothing to do. Never returns.
pub fn idle() -> ! {
    interrupts::enable();
    loop {
        schedule();
        interrupts::disable();
        while !current().work.is_raised(ExitWork::NEED_RESCHED) {
            // STI takes effect after the HLT has begun, so an interrupt that comes after the test ends the wait.
            // SAFETY: the idle task, interrupts off, holding nothing.
            unsafe {
                portcullis::idle::idle::<crate::machine::gate::Gate>(|| {
                    wait_for_interrupt();
                    interrupts::disable();
                });
            }
        }
        interrupts::enable();
    }
}
