//! Every interleaving of raising work from another CPU with the last check of the way out, and of grace periods with
//! the transitions of the context. Run with `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
#![cfg(loom)]

use std::cell::RefCell;

use loom::sync::Arc;
use loom::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use loom::thread;
use portcullis::context::{Context, ContextWord};
use portcullis::machine::{InterruptFlag, Registers, Tracking};
use portcullis::work::{ExitWork, WorkFlags};
use portcullis::{Diagnostics, ExitHooks, InKernel, InSyscall, Kernel, Leaving, Machine, Syscall, SyscallHooks};

/// A task, and what the models look at.
struct Task {
    work: WorkFlags,
    /// What a signal stands for: how many were sent, and how many the hook has seen.
    sent: AtomicU32,
    seen: AtomicU32,
    /// An inter-processor interrupt is on its way to the CPU.
    ipi: AtomicBool,
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::new(Task {
            work: WorkFlags::new(),
            sent: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            ipi: AtomicBool::new(false),
        })
    }

    /// Another CPU sends a signal.
    fn send(&self, from_cpu: u32) {
        self.sent.fetch_add(1, SeqCst);
        let owed = self.work.raise(ExitWork::SIGPENDING, || Some(from_cpu));
        owed.send(|_| self.ipi.store(true, SeqCst));
    }

    /// The task is in user mode for good unless an interrupt brings it back: nothing may be lost.
    fn check_in_user_mode(&self) {
        let all_seen = self.sent.load(SeqCst) == self.seen.load(SeqCst);
        let comes_back = self.ipi.load(SeqCst) && self.work.is_raised(ExitWork::SIGPENDING);
        assert!(all_seen || comes_back, "a signal was lost");
    }
}

loom::thread_local! {
    static CURRENT: RefCell<Option<Arc<Task>>> = RefCell::new(None);
}

fn current<T>(f: impl FnOnce(&Task) -> T) -> T {
    CURRENT.with(|task| f(task.borrow().as_ref().expect("a task runs")))
}

struct Regs;
impl Registers for Regs {
    fn from_user(&self) -> bool {
        true
    }
    fn interrupts_on(&self) -> bool {
        true
    }
    fn syscall_result(&self) -> i64 {
        0
    }
    fn syscall_number(&self) -> i64 {
        -1
    }
}

struct ModelCpu;
// SAFETY: a modelled machine has no GS base to protect.
unsafe impl InterruptFlag for ModelCpu {
    unsafe fn on() {}
    fn off() {}
    fn is_on() -> bool {
        false
    }
}
// SAFETY: no grace period trusts it.
unsafe impl Tracking for ModelCpu {
    type Saved = ();
    unsafe fn user_to_kernel() -> bool {
        true
    }
    unsafe fn kernel_to_user() -> bool {
        true
    }
    unsafe fn kernel_to_idle() -> bool {
        true
    }
    unsafe fn idle_to_kernel() -> bool {
        true
    }
    unsafe fn kernel_to_guest() -> bool {
        true
    }
    unsafe fn guest_to_kernel() -> bool {
        true
    }
    unsafe fn interrupt_enter() {}
    fn found_kernel(_: ()) -> bool {
        true
    }
    unsafe fn interrupt_exit(_: (), _: bool) {}
    fn in_kernel() -> bool {
        true
    }
}

struct Model;
impl Machine for Model {
    type Regs = Regs;
    type SavedRegs = Regs;
    type Irqs = ModelCpu;
    type Context = ModelCpu;
}

impl Kernel for Model {
    fn exit_work() -> usize {
        current(|task| task.work.exit_word())
    }
    fn syscall_work() -> usize {
        0
    }
    fn syscall(_: &mut InSyscall<'_, Self>, _: i64) {}
    fn preempt_count() -> usize {
        0
    }
}
impl SyscallHooks for Model {}
impl Diagnostics for Model {}
impl ExitHooks for Model {
    fn do_signal_or_restart(_: &mut InKernel<'_, Self>) {
        current(|task| {
            // Take first, then look: see `WorkFlags::take`.
            task.work.take(ExitWork::SIGPENDING);
            task.seen.store(task.sent.load(SeqCst), SeqCst);
        });
    }
}

/// The task goes to user mode on this thread.
fn exit_to_user_mode(task: &Arc<Task>) {
    CURRENT.with(|current| *current.borrow_mut() = Some(task.clone()));
    let mut regs = Regs;
    // SAFETY: the modelled CPU is in the kernel; there is no other state.
    let leaving: Leaving<'_, Model, Syscall> = unsafe { Leaving::assume(&mut regs) };
    leaving.exit_to_user_mode_prepare().exit_to_user_mode().suspend();
    CURRENT.with(|current| *current.borrow_mut() = None);
}

#[test]
fn a_signal_races_the_last_check() {
    loom::model(|| {
        let task = Task::new();
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_in(0) };
        let sender = thread::spawn({
            let task = task.clone();
            move || task.send(1)
        });
        exit_to_user_mode(&task);
        sender.join().unwrap();
        task.check_in_user_mode();
    });
}

#[test]
fn two_senders_race_the_last_check() {
    loom::model(|| {
        let task = Task::new();
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_in(0) };
        let senders: Vec<_> = [1, 2]
            .map(|cpu| {
                let task = task.clone();
                thread::spawn(move || task.send(cpu))
            })
            .into();
        exit_to_user_mode(&task);
        for sender in senders {
            sender.join().unwrap();
        }
        task.check_in_user_mode();
    });
}

#[test]
fn a_signal_races_the_switch_to_the_task() {
    loom::model(|| {
        let task = Task::new();
        let sender = thread::spawn({
            let task = task.clone();
            move || task.send(1)
        });
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_in(0) };
        exit_to_user_mode(&task);
        sender.join().unwrap();
        task.check_in_user_mode();
    });
}

#[test]
fn a_signal_races_a_migration() {
    loom::model(|| {
        let task = Task::new();
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_in(0) };
        let sender = thread::spawn({
            let task = task.clone();
            move || task.send(1)
        });
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_out() };
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_in(2) };
        exit_to_user_mode(&task);
        sender.join().unwrap();
        // The interrupt may have been sent to the CPU that the task has left; then the flag was up in time to be seen.
        let all_seen = task.sent.load(SeqCst) == task.seen.load(SeqCst);
        let raised_where_it_runs = task.work.is_raised(ExitWork::SIGPENDING) && task.ipi.load(SeqCst);
        assert!(all_seen || raised_where_it_runs, "a signal was lost");
    });
}

/// A task that is about to sleep announces that, then looks for a signal; a sender raises it, then looks whether the
/// task sleeps. One of the two must see the other.
#[test]
fn a_signal_races_going_to_sleep() {
    loom::model(|| {
        let task = Task::new();
        // SAFETY: a modelled switch.
        unsafe { task.work.switch_in(0) };
        let asleep = Arc::new(AtomicBool::new(false));
        let woken = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let (task, asleep, woken) = (task.clone(), asleep.clone(), woken.clone());
            move || {
                task.send(1);
                fence(SeqCst);
                if asleep.load(SeqCst) {
                    woken.store(true, SeqCst);
                }
            }
        });
        asleep.store(true, SeqCst);
        // Loom takes SeqCst accesses for acquire and release; the fences stand for the rest.
        fence(SeqCst);
        let sleeps = !task.work.is_raised(ExitWork::SIGPENDING);
        sender.join().unwrap();
        assert!(!sleeps || woken.load(SeqCst), "sleeps although a signal is pending");
    });
}

fn move_to(word: &ContextWord, from: Context, to: Context) -> bool {
    // SAFETY: the thread that this runs on is the modelled CPU.
    unsafe { word.move_to(from, to) }
}

fn tracked() -> Arc<ContextWord> {
    let word = ContextWord::new();
    // SAFETY: `move_to` makes all its transitions.
    unsafe { word.track() };
    Arc::new(word)
}

/// A reader that runs in the kernel is waited for; one in user mode is not, and what it does next sees the update.
#[test]
fn a_grace_period_waits_for_readers_and_only_for_them() {
    loom::model(|| {
        let word = tracked();
        assert!(move_to(&word, Context::Kernel, Context::User));
        let data = Arc::new(AtomicU32::new(1));
        let freed = Arc::new(AtomicBool::new(false));

        let reader = thread::spawn({
            let (word, data, freed) = (word.clone(), data.clone(), freed.clone());
            move || {
                assert!(move_to(&word, Context::User, Context::Kernel));
                let read = data.load(SeqCst);
                if read == 1 {
                    assert!(!freed.load(SeqCst), "freed under a reader");
                }
                assert!(move_to(&word, Context::Kernel, Context::User));
            }
        });

        // Unpublish, wait for a grace period, free.
        data.store(0, SeqCst);
        let snapshot = word.snapshot();
        if word.quiescent_since(snapshot) {
            freed.store(true, SeqCst);
        }
        reader.join().unwrap();
        assert_eq!(word.context(), Context::User);
    });
}

/// A word that is not tracked orders nothing where the CPU comes in from user mode: there the grace period does not trust USER.
/// It interrupts the CPU, whose handler counts that it hit no reader.
#[test]
fn a_grace_period_interrupts_user_mode_that_is_not_tracked() {
    loom::model(|| {
        let word = Arc::new(ContextWord::new());
        assert!(move_to(&word, Context::Kernel, Context::User));
        let data = Arc::new(AtomicU32::new(1));
        let freed = Arc::new(AtomicBool::new(false));
        let interrupts = Arc::new(AtomicU32::new(0));

        let reader = thread::spawn({
            let (word, data, freed, interrupts) = (word.clone(), data.clone(), freed.clone(), interrupts.clone());
            move || {
                // The interrupt may come while the CPU is in user mode, or after the reader is done.
                let count_interrupt = || {
                    fence(SeqCst);
                    interrupts.fetch_add(1, SeqCst);
                    fence(SeqCst);
                };
                count_interrupt();
                assert!(move_to(&word, Context::User, Context::Kernel));
                if data.load(Relaxed) == 1 {
                    assert!(!freed.load(Relaxed), "freed under a reader");
                }
                count_interrupt();
                assert!(move_to(&word, Context::Kernel, Context::User));
            }
        });

        data.store(0, SeqCst);
        fence(SeqCst);
        let (snapshot, counted) = (word.snapshot(), interrupts.load(SeqCst));
        if word.quiescent_since(snapshot) || interrupts.load(SeqCst) != counted {
            fence(SeqCst);
            freed.store(true, SeqCst);
        }
        reader.join().unwrap();
        assert_eq!(word.context(), Context::User);
    });
}

/// The idle loop has its barriers in every word: a CPU there is not interrupted.
#[test]
fn a_grace_period_does_not_interrupt_the_idle_loop() {
    loom::model(|| {
        let word = Arc::new(ContextWord::new());
        assert!(move_to(&word, Context::Kernel, Context::Idle));
        let data = Arc::new(AtomicU32::new(1));
        let freed = Arc::new(AtomicBool::new(false));

        let reader = thread::spawn({
            let (word, data, freed) = (word.clone(), data.clone(), freed.clone());
            move || {
                assert!(move_to(&word, Context::Idle, Context::Kernel));
                if data.load(Relaxed) == 1 {
                    assert!(!freed.load(Relaxed), "freed under a reader");
                }
            }
        });

        data.store(0, SeqCst);
        if word.quiescent_since(word.snapshot()) {
            freed.store(true, SeqCst);
        }
        reader.join().unwrap();
    });
}
