//! The scheduler: one run queue, first in first out, slices of 4 ms; a thread that wakes up and has run less than another gets
//! that one's CPU.
//!
//! One lock guards the queue and what the scheduler knows of every thread ([`Entry`](crate::sched::thread::Entry)). It is held across the context
//! switch, so whoever holds it sees each thread either on a CPU, or in the queue, or asleep with its registers saved.
//!
//! **The sleep protocol.** A sleeper sets its state ([`set_state`]), then checks its condition, then calls [`schedule`].
//! A waker makes the condition true, then calls [`wake`]. State and condition are each written before the other is read
//! (both sides use locked instructions), so one of the two sees the other. [`schedule`] decides under the lock, where
//! [`wake`] changes the state: a wake-up that comes before the decision makes the sleep not happen. An interruptible
//! sleep does not begin while a signal is pending: that is decided under the same lock, after which the sender's wake
//! finds the sleeper.
//!
//! **Wake-up preemption.** A thread that wakes up while no CPU is idle is compared with the running ones by lag: how much less
//! CPU time each has had than its share of the time that passed. The share is one of as many as want a CPU and one more, so
//! that all who preempt together leave some for those who never sleep; and lag is bounded ([`CREDIT`]), so that nobody catches
//! up on years. Who is behind another by more than [`LAG`] goes to the head of the queue, and the other to its end. So a
//! thread that has used up what it gained waits for its turn as all others do, and those get theirs.
//!
//! **Lazy preemption.** Who is to make way does so on the way to user mode (NEED_RESCHED_LAZY). A thread that stays in the kernel
//! until the next tick is preempted there (NEED_RESCHED), and so is one that makes way for a thread of a real-time class, or is one.
//!
//! The scheduler owns one reference to each thread from [`start`] until the thread has ended and its stack is left.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use portcullis::InKernel;
use portcullis::work::ExitWork;
use portcullis::x86_64::UserRegs;
use portcullis::x86_64::halt::wait_for_interrupt;
use x86_64::instructions::interrupts;

use crate::machine::cpu::MAX_CPUS;
use crate::machine::sync::SpinLock;
use crate::machine::{cpu, sync, time};
use crate::sched::callbacks::callbacks;
use crate::sched::state::*;
use crate::sched::switch;
use crate::sched::thread::Owner;
use crate::sched::thread::{Inner, Place};
use crate::sched::thread::{Thread, current};
use crate::sched::timer;
use crate::sched::timer::SLICE;

/// How much further behind than another a thread must be to get its CPU at a wake-up. Two that wake each other in turn are not.
const LAG: i64 = 500_000;
/// How far behind, or ahead, a thread can be.
const CREDIT: i64 = SLICE as i64;

/// A first-in-first-out list through `Entry::next`.
struct RunQueue {
    head: *const Thread,
    tail: *const Thread,
    /// CPUs that run their idle thread and have not been sent for yet.
    idle: u64,
}

// SAFETY: the pointers are to threads that the scheduler's reference keeps alive.
unsafe impl Send for RunQueue {}

static RUN_QUEUE: SpinLock<RunQueue> = SpinLock::new(RunQueue { head: ptr::null(), tail: ptr::null(), idle: 0 });
/// Length of the queue, readable without the lock.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// Each CPU's idle thread.
static IDLE: [AtomicPtr<Thread>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

impl RunQueue {
    /// The scheduler's part of a thread. Having the queue by `&mut` proves the lock is held.
    fn entry<'a>(&'a mut self, thread: &'a Thread) -> &'a mut Inner {
        // SAFETY: guarded by the run-queue lock, which the caller's `&mut self` shows to be held.
        unsafe { &mut *thread.sched.0.get() }
    }

    #[inline]
    fn push(&mut self, thread: &Thread) {
        let entry = self.entry(thread);
        entry.place = Place::Queued;
        entry.next = ptr::null();
        if self.tail.is_null() {
            self.head = thread;
        } else {
            // SAFETY: a queued thread is alive; guarded by the lock.
            unsafe { (*(*self.tail).sched.0.get()).next = thread };
        }
        self.tail = thread;
        WAITING.store(WAITING.load(Relaxed) + 1, Relaxed);
    }

    /// Puts it in front of all others.
    fn push_front(&mut self, thread: &Thread) {
        let head = self.head;
        let entry = self.entry(thread);
        entry.place = Place::Queued;
        entry.next = head;
        if head.is_null() {
            self.tail = thread;
        }
        self.head = thread;
        WAITING.store(WAITING.load(Relaxed) + 1, Relaxed);
    }

    /// How far a thread is behind one of `shares` equal shares of the time up to now.
    fn lag(&mut self, thread: &Thread, now: u64, shares: u64) -> i64 {
        let used = thread.usage.total();
        let entry = self.entry(thread);
        let share = (now.saturating_sub(entry.seen) / shares) as i64;
        let had = used.saturating_sub(entry.used) as i64;
        entry.lag = entry.lag.saturating_add(share.saturating_sub(had)).clamp(-CREDIT, CREDIT);
        (entry.seen, entry.used) = (now, used);
        entry.lag
    }

    /// Queues a thread that has woken up while no CPU that it may run on is idle: in front, and in place of the thread that is
    /// furthest ahead, if it is behind that one.
    #[cold]
    fn push_woken(&mut self, thread: &Thread) {
        let affinity = thread.affinity.load(Relaxed);
        let now = time::now();
        let shares = WAITING.load(Relaxed) as u64 + 3;
        let mut furthest: Option<(i64, &Thread)> = None;
        for cpu in (0..cpu::count()).filter(|cpu| affinity & 1 << cpu != 0) {
            // SAFETY: a CPU changes its thread with the queue's lock held, which we hold: this one is on the CPU, and alive.
            let Some(other) = (unsafe { cpu::get(cpu).current.load(Relaxed).cast::<Thread>().as_ref() }) else {
                continue;
            };
            if ptr::eq(IDLE[cpu].load(Relaxed), other) {
                // It has been sent for, and looks into the queue.
                return self.push(thread);
            }
            if other.state.load(Relaxed) != RUNNING {
                // It is about to sleep: there is nothing to take from it.
                continue;
            }
            let lag = self.lag(other, now, shares);
            if furthest.is_none_or(|(least, _)| lag < least) {
                furthest = Some((lag, other));
            }
        }
        if let Some((least, other)) = furthest
            && self.lag(thread, now, shares).saturating_sub(least) > LAG
        {
            self.push_front(thread);
            other.raise(preemption(thread));
        } else {
            self.push(thread);
        }
    }

    /// Takes the first thread that may run on `cpu`.
    #[inline]
    fn take(&mut self, cpu: usize) -> Option<&'static Thread> {
        let mut before: *const Thread = ptr::null();
        let mut at = self.head;
        while !at.is_null() {
            // SAFETY: a queued thread is alive, and stays so after it is taken (the scheduler's reference).
            let thread: &'static Thread = unsafe { &*at };
            let next = self.entry(thread).next;
            if thread.affinity.load(Relaxed) & 1 << cpu != 0 {
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
                return Some(thread);
            }
            before = at;
            at = next;
        }
        None
    }

    /// Whether a CPU that the thread may run on is idle.
    fn has_idle(&self, thread: &Thread) -> bool {
        self.idle & thread.affinity.load(Relaxed) != 0
    }

    /// Sends an idle CPU for a thread that has just been queued.
    fn kick_idle(&mut self, thread: &Thread) {
        let candidates = self.idle & thread.affinity.load(Relaxed);
        if candidates == 0 {
            return;
        }
        let cpu = candidates.trailing_zeros() as usize;
        self.idle &= !(1 << cpu);
        // SAFETY: set by `init_cpu` before the CPU's bit in `idle` can be; idle threads live for ever.
        unsafe { (*IDLE[cpu].load(Relaxed)).raise(ExitWork::NEED_RESCHED) };
    }
}

/// How a thread makes way for `thread`, or for another one at the end of its own slice: at once, or on the way to user mode.
fn preemption(thread: &Thread) -> ExitWork {
    if thread.policy.priority() != 0 { ExitWork::NEED_RESCHED } else { ExitWork::NEED_RESCHED_LAZY }
}

/// Sets the current thread's state. Anything but `RUNNING` announces a sleep: see the protocol above.
#[inline]
pub fn set_state(state: u32) {
    // The exchange orders the store before the caller's reads of its condition.
    current().state.swap(state, SeqCst);
}

/// A thread's state, for information.
pub fn state(thread: &Thread) -> u32 {
    thread.state.load(Relaxed)
}

/// Makes a sleeping thread runnable. Returns whether it slept (or was about to).
pub fn wake(thread: &Thread) -> bool {
    wake_state(thread, NORMAL)
}

/// Wakes `thread` if its state is one of `states`. From any context; takes the run-queue lock.
pub fn wake_state(thread: &Thread, states: u32) -> bool {
    let mut queue = RUN_QUEUE.lock();
    if thread.state.load(Relaxed) & states == 0 {
        return false;
    }
    thread.state.store(RUNNING, Relaxed);
    if queue.entry(thread).place == Place::Asleep {
        if queue.has_idle(thread) || states == NEW || !thread.policy.preempts() {
            queue.push(thread);
            queue.kick_idle(thread);
        } else {
            queue.push_woken(thread);
        }
    }
    true
}

/// Whether a thread is off its CPU and nobody has woken it.
pub fn is_asleep(thread: &Thread) -> bool {
    RUN_QUEUE.lock().entry(thread).place == Place::Asleep
}

/// Runs `f` if a thread is asleep, and keeps it asleep meanwhile. With the run-queue lock held: `f` must be short, and call nothing
/// here.
pub fn while_asleep<T>(thread: &Thread, f: impl FnOnce() -> T) -> Option<T> {
    let mut queue = RUN_QUEUE.lock();
    (queue.entry(thread).place == Place::Asleep).then(f)
}

/// Waits until a thread that has decided to sleep, and that nobody else wakes, is off its CPU, with all its registers saved.
pub fn wait_until_asleep(thread: &Thread) {
    while !is_asleep(thread) {
        yield_now();
        core::hint::spin_loop();
    }
}

/// Makes a new thread runnable. From here on the scheduler holds a reference to what it is part of.
pub fn start<T: Owner>(owner: Arc<T>) {
    // SAFETY: just leaked, so it lives until `finish_switch` gives the reference back.
    let thread = unsafe { &*adopt(owner) };
    // SAFETY: the thread is new, and in no queue; nothing has run on its stack.
    unsafe { (*thread.sched.0.get()).stack_pointer = switch::prepare_stack(thread, first_run) };
    wake_state(thread, NEW);
}

/// Takes a reference to what a thread is part of.
fn adopt<T: Owner>(owner: Arc<T>) -> *mut Thread {
    let owner = Arc::into_raw(owner).cast_mut();
    let thread = owner.cast::<Thread>();
    // SAFETY: an `Owner` starts with its thread, and the reference that was just leaked keeps it.
    unsafe { (*thread).owner.store(owner.cast(), Relaxed) };
    thread
}

/// Gives the CPU to the next thread. If the current state is not `RUNNING`, sleeps until woken; returns at once if the
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

/// On the way from an interrupt back to kernel code whose thread is owed a reschedule: interrupts off, no lock held.
/// The state is left alone: a thread that is about to sleep has not checked its condition yet.
pub fn preempt_from_interrupt() {
    let thread = current();
    // The idle loop looks for itself, after it has told the context tracking that it is no longer idle.
    if !is_idle(thread) {
        reschedule(true);
    }
}

/// Restricts a thread to some CPUs, and gets it there if it runs or waits for a CPU now.
pub fn set_affinity(thread: &Thread, mask: u64) {
    let mut queue = RUN_QUEUE.lock();
    thread.affinity.store(mask, Relaxed);
    match queue.entry(thread).place {
        Place::Asleep => {}
        Place::Queued => queue.kick_idle(thread),
        Place::OnCpu => thread.raise(ExitWork::NEED_RESCHED),
    }
}

fn is_idle(thread: &Thread) -> bool {
    ptr::eq(IDLE[cpu::id()].load(Relaxed), thread)
}

fn reschedule(preempted: bool) {
    let interrupts_on = interrupts::are_enabled();
    interrupts::disable();
    debug_assert_eq!(sync::preempt_count(), 0, "sleeping while holding a spin lock");
    let prev = current();
    let cpu = cpu::id();
    let mut queue = RUN_QUEUE.lock();
    prev.work.take(ExitWork::NEED_RESCHED | ExitWork::NEED_RESCHED_LAZY);
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
            // SAFETY: set by `init_cpu` before this CPU schedules; idle threads live for ever.
            unsafe { &*idle }
        }
    };
    queue.entry(next).place = Place::OnCpu;
    if ptr::eq(prev, next) {
        drop(queue);
    } else {
        let now = time::now();
        if cfg!(portcullis_trace) {
            callbacks().record_switch(next);
        }
        if prev.on_switch_out.load(Relaxed) != 0 {
            callbacks().switched_out(prev, next);
        }
        prev.usage.switched_out(now, runnable);
        next.usage.switched_in(now);
        SWITCHES[cpu].fetch_add(1, SeqCst);
        if ptr::eq(prev, idle) {
            timer::start_ticking();
        }
        let save = &raw mut queue.entry(prev).stack_pointer;
        let load = queue.entry(next).stack_pointer;
        // The lock goes over to the next thread, which releases it in `finish_switch`.
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

/// How often each CPU has switched threads.
static SWITCHES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// How often a CPU has switched threads.
pub fn switches(cpu: usize) -> u64 {
    SWITCHES[cpu].load(SeqCst)
}

/// The other half of a switch, on the new thread's stack: releases the lock that came with it, and lets go of the thread that
/// was left if that one has ended.
///
/// # Safety
/// Once after each switch, with interrupts off; `last` is the thread that was left.
pub unsafe fn finish_switch(last: *const Thread) {
    // A thread that was preempted on its last steps is in the queue and not dead yet.
    // SAFETY: `last` is kept alive by the scheduler's reference; the lock is held.
    let dead = unsafe { (*last).state.load(Relaxed) == DEAD && (*(*last).sched.0.get()).place == Place::Asleep };
    // SAFETY: `reschedule` on the other stack locked it and forgot the guard.
    unsafe { RUN_QUEUE.force_unlock() };
    if dead {
        // SAFETY: as above.
        let last = unsafe { &*last };
        // A timer that was late for its last sleep may be about to wake it, on another CPU.
        while last.timeouts.load(Acquire) != 0 {
            core::hint::spin_loop();
        }
        // SAFETY: the reference that `start` leaked. Nobody will run on that stack again: this code runs on another.
        unsafe { (last.release)(last.owner()) };
    }
}

/// A new thread's first steps. Returns with interrupts off when it is to enter user mode.
unsafe extern "sysv64" fn first_run(last: *const Thread, regs: &mut UserRegs) {
    // SAFETY: called once after the switch to a new thread, interrupts off.
    unsafe { finish_switch(last) };
    let thread = current();
    interrupts::enable();
    if let Some(start) = thread.start {
        // SAFETY: interrupts are on and this is the thread's stack. It has not been in user mode: the context is KERNEL, and this is
        // the first state of its. `regs` are what it enters user mode with.
        let mut at = unsafe { InKernel::assume(regs) };
        start(&mut at);
        at.suspend();
    }
    callbacks().before_user_mode();
    interrupts::disable();
}

/// How many want [`Callbacks::tick`](crate::sched::callbacks::Callbacks::tick) called. While it is 0, a tick costs what it costs the
/// scheduler.
pub static TICK_WATCHERS: AtomicUsize = AtomicUsize::new(0);

/// The timer interrupt's part, once per slice on a CPU that is not idle.
pub fn tick(from_user: bool) {
    let thread = current();
    if is_idle(thread) {
        return;
    }
    thread.usage.tick(from_user);
    TICKS[usize::from(!from_user)].fetch_add(1, Relaxed);
    if TICK_WATCHERS.load(Relaxed) != 0 {
        callbacks().tick(thread);
    }
    if WAITING.load(Relaxed) != 0 {
        let has_stayed = thread.work.is_raised(ExitWork::NEED_RESCHED_LAZY);
        thread.raise(if has_stayed { ExitWork::NEED_RESCHED } else { preemption(thread) });
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
    // SAFETY: idle threads live for ever.
    let threads = IDLE.iter().filter_map(|thread| unsafe { thread.load(Acquire).as_ref() });
    threads.map(|thread| thread.usage.total()).sum()
}

/// Number of threads on CPUs and in the queue (for /proc/loadavg and sysinfo).
pub fn runnable() -> usize {
    let idle = RUN_QUEUE.lock().idle.count_ones() as usize;
    WAITING.load(Relaxed) + cpu::count() - idle.min(cpu::count())
}

/// Gives this CPU its idle thread, which is the code that is running now, on the boot stack. Before anything can sleep, and after
/// [`fpu::init_cpu`](crate::sched::fpu::init_cpu).
pub fn init_cpu<T: Owner>(idle: Arc<T>) {
    let thread = adopt(idle);
    IDLE[cpu::id()].store(thread, Release);
    // SAFETY: just made, lives for ever.
    unsafe {
        (*thread).state.store(RUNNING, Relaxed);
        (*thread).mm.activate();
        switch::become_current(&*thread);
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
            // SAFETY: the idle thread, interrupts off, holding nothing.
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
