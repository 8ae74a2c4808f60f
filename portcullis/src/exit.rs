//! The way out: the exit loop, and the last checks.

use crate::host::{InterruptFlag, Tracking};
use crate::kernel::{Broken, Kernel};
use crate::state::{Arrived, Cleared, InKernel, Leaving};
use crate::trace::Event;

impl<'r, R> Arrived<'r, R> {
    /// User mode was just left: moves the context from USER to KERNEL. Every door begins with this.
    ///
    /// # Safety
    /// The CPU has just come in from user mode by a door, interrupts are off, and `regs` are what the door saved at the
    /// top of the thread stack. No other state of this crossing exists.
    #[inline(always)]
    #[allow(unsafe_code, reason = "here a door makes the first state")]
    pub unsafe fn enter_from_user_mode<K: Kernel<Regs = R>>(regs: &'r mut R) -> Self {
        K::arch_enter_from_user_mode(regs);
        if !K::Context::user_to_kernel() {
            K::invariant_broken(Broken::ArrivedNotFromUser);
        }
        K::trace(Event::FromUser, 0);
        Arrived::new(regs)
    }

    /// Turns interrupts on: ordinary kernel code follows.
    #[inline(always)]
    pub fn irqs_on<K: Kernel<Regs = R>>(self) -> InKernel<'r, R> {
        K::Irqs::on();
        InKernel::new(self.into_regs())
    }

    /// What brought the task in is handled, with interrupts off throughout.
    #[inline(always)]
    pub fn handled(self) -> Leaving<'r, R> {
        Leaving::new(self.into_regs())
    }
}

impl<'r, R> InKernel<'r, R> {
    /// Turns interrupts off: on the way out.
    #[inline(always)]
    pub fn irqs_off<K: Kernel<Regs = R>>(self) -> Leaving<'r, R> {
        K::Irqs::off();
        Leaving::new(self.into_regs())
    }
}

impl<'r, R> Leaving<'r, R> {
    /// Runs all pending exit work, checks, and moves the context from KERNEL to USER.
    ///
    /// Where nothing is pending this is one load and one test.
    #[inline(always)]
    pub fn exit_to_user_mode<K: Kernel<Regs = R>>(self) -> Cleared<'r, R> {
        self.exit::<K>(|| {})
    }

    /// The same after a 32-bit system call, which is over once all work is done: signals and tracers still ask.
    #[inline(always)]
    pub fn exit_to_user_mode_32<K: Kernel<Regs = R>>(self) -> Cleared<'r, R> {
        self.exit::<K>(|| K::compat_call(false))
    }

    #[inline(always)]
    fn exit<K: Kernel<Regs = R>>(mut self, last: impl FnOnce()) -> Cleared<'r, R> {
        if K::CHECKS && K::Irqs::is_on() {
            K::invariant_broken(Broken::InterruptsOn);
        }
        K::tick_nohz_user_enter_prepare(&mut self);
        let mut work = K::exit_work();
        if work & (K::EXIT_WORK.all() | K::EXTRA_EXIT_WORK | K::EXTRA_ONCE_WORK) != 0 {
            (self, work) = exit_to_user_mode_slow::<K>(self, work);
        }
        K::arch_exit_to_user_mode_prepare(&mut self, work);
        last();
        last_checks::<K>(&mut self);
        K::trace(Event::ToUser, 0);
        if !K::Context::kernel_to_user() {
            K::invariant_broken(Broken::LeavingNotFromKernel);
        }
        Cleared::new(self.into_regs())
    }
}

/// Some exit work is pending: the loop, then what runs once. Inlined but for the loop: what a switch of tasks leaves to be
/// done once (Linux: the FPU registers) should not pay for the loop's frame.
#[inline(always)]
fn exit_to_user_mode_slow<K: Kernel>(
    mut leaving: Leaving<'_, K::Regs>,
    mut work: usize,
) -> (Leaving<'_, K::Regs>, usize) {
    if work & (K::EXIT_WORK.in_loop() | K::EXTRA_EXIT_WORK) != 0 {
        (leaving, work) = exit_to_user_mode_loop::<K>(leaving, work);
    }
    if work & K::EXIT_WORK.user_return_notify != 0 {
        K::fire_user_return_notifiers(&mut leaving);
    }
    // Read again: to keep the word over the notifiers costs every crossing a register to save.
    if K::EXTRA_ONCE_WORK != 0 {
        work = K::exit_work();
        if work & K::EXTRA_ONCE_WORK != 0 {
            K::arch_exit_to_user_mode_once(&mut leaving, work);
        }
    }
    (leaving, work)
}

/// The heart: runs pending work with interrupts on, turns them off, looks again, until nothing is left.
///
/// Because the last look is with interrupts off, and stays the last until user mode is entered, work that is raised
/// afterwards by another CPU finds its interrupt pending the moment user mode starts.
#[cold]
#[inline(never)]
fn exit_to_user_mode_loop<K: Kernel>(
    mut leaving: Leaving<'_, K::Regs>,
    mut work: usize,
) -> (Leaving<'_, K::Regs>, usize) {
    let bits = &K::EXIT_WORK;
    while work & (bits.in_loop() | K::EXTRA_EXIT_WORK) != 0 {
        let mut at = irqs_on_again::<K>(leaving);
        K::trace(Event::ExitWork, work as u64);

        if work & (bits.need_resched | bits.need_resched_lazy) != 0 {
            K::schedule(&mut at);
        }
        if work & bits.uprobe != 0 {
            K::uprobe_notify_resume(&mut at);
        }
        if work & bits.patch_pending != 0 {
            K::klp_update_patch_state(&mut at);
        }
        if work & (bits.sigpending | bits.notify_signal) != 0 {
            K::do_signal_or_restart(&mut at);
        }
        if work & bits.notify_resume != 0 {
            K::resume_user_mode_work(&mut at);
        }
        if work & bits.rseq != 0 {
            K::rseq_handle_notify_resume(&mut at);
        }
        if work & K::EXTRA_EXIT_WORK != 0 {
            K::arch_exit_to_user_mode_work(&mut at, work);
        }

        K::trace(Event::ExitWorkDone, 0);
        leaving = at.irqs_off::<K>();
        K::tick_nohz_user_enter_prepare(&mut leaving);
        work = K::exit_work();
    }
    (leaving, work)
}

/// Work was found: back to ordinary kernel code. Only the exit loop may go this way.
fn irqs_on_again<K: Kernel>(leaving: Leaving<'_, K::Regs>) -> InKernel<'_, K::Regs> {
    K::Irqs::on();
    InKernel::new(leaving.into_regs())
}

/// What must hold when user mode is entered.
#[inline(always)]
fn last_checks<K: Kernel>(leaving: &mut Leaving<'_, K::Regs>) {
    if K::CHECKS {
        if K::Irqs::is_on() {
            K::invariant_broken(Broken::InterruptsOn);
        }
        if K::preempt_count() != 0 {
            K::invariant_broken(Broken::PreemptionDisabled);
        }
        K::check_before_user_mode(leaving);
    }
}
