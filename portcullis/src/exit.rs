//! The way out: the exit loop, the last hooks, the last checks.
//!
//! ```text
//!   Leaving ──► read the word ──► nothing due ──────────────► Settled ──► work done once, last hooks, checks ──► Cleared
//!                  ▲                  │ due                       ▲
//!                  │                  ▼                           │ Ok
//!                  ├── off ◄── hooks, interrupts on    rseq_exit_to_user_mode_restart
//!                  └───────────────────────────────────────────── Err(Again) ┘
//! ```

use crate::broken::Broken;
use crate::kernel::{Again, Gate, returned};
use crate::machine::{InterruptFlag, Tracking};
use crate::state::{Arrived, Cleared, Crossing, Event, InKernel, Leaving, Settled};
use crate::trace;
use crate::work::{ExitWorkBits, PendingExitWork, Phase};

/// The context was not the one that an arrival, or else a way out, starts from. Out of line, so that the doors need no stack for it.
#[cold]
#[inline(never)]
fn broken<K: Gate, const ARRIVAL: bool>() {
    K::invariant_broken(if ARRIVAL { Broken::ArrivedNotFromUser } else { Broken::LeavingNotFromKernel });
}

impl<'r, K: Gate, C: Crossing> Arrived<'r, K, C> {
    /// User mode was just left: moves the context from USER to KERNEL.
    ///
    /// # Safety
    /// The CPU has just come in from user mode by a door for `C`, interrupts are off, and `regs` are what the door saved at
    /// the top of the thread stack. No other state of this crossing exists.
    #[inline(always)]
    #[allow(unsafe_code, reason = "here a door makes the first state")]
    pub unsafe fn enter_from_user_mode(regs: &'r mut K::Regs) -> Self {
        K::arch_enter_from_user_mode(regs);
        // SAFETY: the caller's.
        if !unsafe { K::Context::user_to_kernel() } {
            broken::<K, true>();
        }
        K::trace(trace::Event::FromUser, 0);
        Arrived::new(regs)
    }

    /// Turns interrupts on: ordinary kernel code follows.
    #[inline(always)]
    #[allow(unsafe_code, reason = "turns interrupts on")]
    pub(crate) fn into_kernel(self) -> InKernel<'r, K, C> {
        // SAFETY: the state says that the door is done.
        unsafe { K::Irqs::on() };
        InKernel::new(self.into_regs())
    }
}

impl<'r, K: Gate> Arrived<'r, K, Event> {
    /// Turns interrupts on, to handle an exception.
    #[inline(always)]
    pub fn irqs_on(self) -> InKernel<'r, K, Event> {
        self.into_kernel()
    }

    /// What brought the task in was handled with interrupts off.
    #[inline(always)]
    pub fn handled(self) -> Leaving<'r, K, Event> {
        Leaving::new(self.into_regs())
    }
}

impl<'r, K: Gate> InKernel<'r, K, Event> {
    /// The exception is handled: turns interrupts off.
    #[inline(always)]
    pub fn irqs_off(self) -> Leaving<'r, K, Event> {
        self.into_leaving()
    }
}

impl<'r, K: Gate, C> InKernel<'r, K, C> {
    #[inline(always)]
    pub(crate) fn into_leaving(self) -> Leaving<'r, K, C> {
        K::Irqs::off();
        Leaving::new(self.into_regs())
    }

    /// Calls a hook, and checks what it leaves.
    #[inline(always)]
    pub(crate) fn hook<T>(&mut self, name: &'static str, hook: impl FnOnce(&mut InKernel<'_, K>) -> T) -> T {
        let result = self.lend(hook);
        returned::<K>(name, true);
        result
    }
}

impl<K: Gate, C> Settled<'_, K, C> {
    /// Calls a hook that must not raise exit work, and checks what it leaves.
    #[inline(always)]
    fn hook<T>(&mut self, name: &'static str, hook: impl FnOnce(&mut Settled<'_, K>) -> T) -> T {
        let raised = if K::CHECKS { K::raised_here() } else { 0 };
        let result = self.lend(hook);
        if K::CHECKS && K::raised_here() != raised {
            K::invariant_broken(Broken::RaisedTooLate { hook: name });
        }
        returned::<K>(name, false);
        result
    }
}

impl<K: Gate, C> Leaving<'_, K, C> {
    /// Reads the exit-work word, after what may still raise work with interrupts off.
    #[inline(always)]
    fn read_work(&mut self) -> usize {
        self.lend(K::tick_nohz_user_enter_prepare);
        returned::<K>("tick_nohz_user_enter_prepare", false);
        K::exit_work()
    }
}

impl<'r, K: Gate, C: Crossing> Leaving<'r, K, C> {
    /// At the end of a system call: nothing is pending, or back to the caller.
    #[inline(always)]
    pub(crate) fn settle_if_idle(mut self) -> Result<Settled<'r, K, C>, Self> {
        self.lend(K::tick_nohz_user_enter_prepare);
        returned::<K>("tick_nohz_user_enter_prepare", false);
        if K::any_work() {
            return Err(self);
        }
        let mut settled = Settled::new(self.into_regs());
        settled.hook("arch_exit_to_user_mode_prepare", |at| K::arch_exit_to_user_mode_prepare(at, 0));
        Ok(settled)
    }

    /// Does pending exit work, then what is done once. With default hooks and nothing pending, this is one load and one test.
    #[inline(always)]
    pub fn exit_to_user_mode_prepare(mut self) -> Settled<'r, K, C> {
        const { assert!(K::EXIT_WORK.is_disjoint(), "two kinds of exit work have the same bit") };
        let due = const { K::EXIT_WORK.due(C::SYSCALL) };
        if K::CHECKS && K::Irqs::is_on() {
            K::invariant_broken(Broken::InterruptsOn);
            K::Irqs::off();
        }
        let mut work = self.read_work();
        let mut settled = Settled::new(self.into_regs());
        if work & due != 0 {
            (settled, work) = pending_work::<K, C>(settled, work, due);
        }
        settled.hook("arch_exit_to_user_mode_prepare", |at| K::arch_exit_to_user_mode_prepare(at, work));
        settled
    }
}

// The phases after the loop are written by hand below: a kind that joins one of them has to be added there.
const _: () = {
    let bits = ExitWorkBits::DEFAULT;
    assert!(bits.of(Phase::Repeat) == bits.rseq, "a kind of the phase Repeat has no call");
    assert!(bits.of(Phase::Once) == bits.user_return_notify, "a kind of the phase Once has no call");
};

/// Some exit work is pending: the loop, then what is done once. The loop is a function of its own, so that work that each switch
/// of tasks leaves to be done once (Linux: the FPU registers) does not pay for its frame.
#[inline(always)]
fn pending_work<'r, K: Gate, C: Crossing>(
    mut settled: Settled<'r, K, C>,
    mut work: usize,
    due: usize,
) -> (Settled<'r, K, C>, usize) {
    let bits = &K::EXIT_WORK;
    if work & due & (bits.of(Phase::Loop) | bits.of(Phase::Repeat)) != 0 {
        let (any, read) = exit_to_user_mode_loop::<K>(Leaving::new(settled.into_regs()), work, due);
        (settled, work) = (Settled::new(any.into_regs()), read);
    }
    if work & due & bits.user_return_notify != 0 {
        settled.hook("fire_user_return_notifiers", K::fire_user_return_notifiers);
    }
    // Read again: keeping the word across the notifiers would cost crossings without them a saved register.
    if bits.own_once != 0 {
        work = K::exit_work();
        if work & due & bits.own_once != 0 {
            settled.hook("arch_exit_to_user_mode_once", |at| K::arch_exit_to_user_mode_once(at, work));
        }
    }
    (settled, work)
}

/// Does pending work with interrupts on, turns them off, reads the word again, until nothing is left.
///
/// The last read is with interrupts off, and they stay off until user mode is entered. So for work that another CPU raises
/// later, its interrupt is pending when user mode starts.
#[cold]
#[inline(never)]
fn exit_to_user_mode_loop<'r, K: Gate>(
    mut leaving: Leaving<'r, K>,
    mut work: usize,
    due: usize,
) -> (Settled<'r, K>, usize) {
    let bits = &K::EXIT_WORK;
    // A constant where the masks do not differ: then no register is kept for it.
    let due = if const { K::EXIT_WORK.due(true) == K::EXIT_WORK.due(false) } {
        const { K::EXIT_WORK.due(true) }
    } else {
        due
    };
    let mut untaken = Untaken::NOTHING;
    loop {
        while work & due & bits.of(Phase::Loop) != 0 {
            (leaving, work) = round::<K>(leaving, work & due);
            untaken.look::<K>(work & due & bits.of(Phase::Loop));
        }

        let mut settled = Settled::new(leaving.into_regs());
        let mut restarted = Ok(());
        if work & due & bits.rseq != 0 {
            restarted = settled.lend(K::rseq_exit_to_user_mode_restart);
            returned::<K>("rseq_exit_to_user_mode_restart", false);
        }
        if restarted.is_ok() {
            restarted = settled.lend(K::rseq_arm_slice_extension_timer);
            returned::<K>("rseq_arm_slice_extension_timer", false);
        }
        match restarted {
            Ok(()) => return (settled, work),
            Err(Again) => leaving = Leaving::new(settled.into_regs()),
        }
        work = K::exit_work();
        untaken.look::<K>(work & due & bits.rseq);
    }
}

/// One round of the loop.
#[inline(always)]
#[allow(unsafe_code, reason = "turns interrupts on")]
fn round<'r, K: Gate>(leaving: Leaving<'r, K>, work: usize) -> (Leaving<'r, K>, usize) {
    let PendingExitWork {
        need_resched,
        need_resched_lazy,
        uprobe,
        patch_pending,
        sigpending,
        notify_signal,
        notify_resume,
        own_loop,
        // After the loop.
        rseq: _,
        user_return_notify: _,
        own_once: _,
    } = K::EXIT_WORK.pending(work);

    // SAFETY: the state says that the CPU is in the kernel and about to leave.
    unsafe { K::Irqs::on() };
    let mut at = InKernel::<K>::new(leaving.into_regs());
    K::trace(trace::Event::ExitWork, work as u64);
    if need_resched | need_resched_lazy != 0 {
        at.hook("schedule", |at| K::schedule(at, work));
    }
    if uprobe != 0 {
        at.hook("uprobe_notify_resume", K::uprobe_notify_resume);
    }
    if patch_pending != 0 {
        at.hook("klp_update_patch_state", K::klp_update_patch_state);
    }
    if sigpending | notify_signal != 0 {
        at.hook("do_signal_or_restart", K::do_signal_or_restart);
    }
    if notify_resume != 0 {
        at.hook("resume_user_mode_work", K::resume_user_mode_work);
    }
    if own_loop != 0 {
        at.hook("arch_exit_to_user_mode_work", |at| K::arch_exit_to_user_mode_work(at, work));
    }
    K::trace(trace::Event::ExitWorkDone, 0);

    let mut leaving = at.into_leaving();
    let work = leaving.read_work();
    (leaving, work)
}

/// With [`CHECKS`](crate::Machine::CHECKS): finds work that no hook takes.
struct Untaken {
    /// What was pending after each of the last rounds.
    pending: usize,
    rounds: u32,
}

impl Untaken {
    const NOTHING: Self = Untaken { pending: usize::MAX, rounds: 0 };
    /// After so many rounds it is reported. Work that is taken may be raised again before the next read, and often in a row: each
    /// stop of a traced task wakes its tracer, which is to run first. Work that no hook takes stays for ever.
    const ROUNDS: u32 = 1000;

    /// After a round: `left` is still, or again, pending.
    #[inline(always)]
    fn look<K: Gate>(&mut self, left: usize) {
        if !K::CHECKS {
            return;
        }
        self.pending &= left;
        self.rounds += 1;
        if self.pending != 0 && self.rounds == Self::ROUNDS {
            let work = K::EXIT_WORK.first_name(self.pending);
            K::invariant_broken(Broken::NotTaken { work });
        }
        if self.pending == 0 || self.rounds == Self::ROUNDS {
            *self = Self::NOTHING;
        }
    }
}

impl<'r, K: Gate, C: Crossing> Settled<'r, K, C> {
    /// Moves the context from KERNEL to USER, after the last checks. The door follows.
    #[inline(always)]
    pub fn exit_to_user_mode(self) -> Cleared<'r, K, C> {
        self.exit_to_user_mode_by(0)
    }

    /// The same, with the value of [`trace::Event::ToUser`].
    #[inline(always)]
    #[allow(unsafe_code, reason = "moves the context")]
    pub(crate) fn exit_to_user_mode_by(mut self, way: u64) -> Cleared<'r, K, C> {
        if C::COMPAT {
            // Signals and tracers, which ask whose call it is, are done.
            K::compat_call(false);
        }
        if K::CHECKS {
            self.hook("check_before_user_mode", |at| K::check_before_user_mode(at));
        }
        K::trace(trace::Event::ToUser, way);
        // SAFETY: the door follows, with interrupts off.
        if !unsafe { K::Context::kernel_to_user() } {
            broken::<K, false>();
        }
        Cleared::new(self.into_regs())
    }
}
