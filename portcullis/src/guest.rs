//! Before a virtual machine's guest is entered, the exit work is due whose declaration in [`work`](crate::work) says so: that
//! which does not need the way to user mode.

use crate::broken::Broken;
use crate::kernel::{ExitHooks, Gate, GuestHooks, returned};
use crate::machine::{InterruptFlag, Tracking};
use crate::state::{EnteringGuest, InKernel};
use crate::work::PendingExitWork;

/// A signal is pending: the hypervisor must leave its run loop, so that it is delivered on the way to user mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalPending;

#[allow(unsafe_code, reason = "turns interrupts on again")]
impl<K: Gate + GuestHooks, C> InKernel<'_, K, C> {
    /// Does pending work until none is left, with interrupts off at the last read.
    ///
    /// # Errors
    /// [`SignalPending`], with interrupts on.
    pub fn xfer_to_guest_mode(&mut self) -> Result<EnteringGuest<'_, K>, SignalPending> {
        loop {
            K::Irqs::off();
            if K::exit_work() & K::EXIT_WORK.before_guest() == 0 {
                let mut entering = EnteringGuest::new(self.regs());
                entering.lend(K::arch_enter_guest_prepare);
                returned::<K>("arch_enter_guest_prepare", false);
                return Ok(entering);
            }
            // SAFETY: ordinary kernel code, as the state says.
            unsafe { K::Irqs::on() };
            self.xfer_to_guest_mode_work()?;
        }
    }

    /// Does pending work until none is left, with interrupts on: for a hypervisor whose own run loop does the last read, with
    /// interrupts off.
    ///
    /// # Errors
    /// [`SignalPending`].
    pub fn xfer_to_guest_mode_work(&mut self) -> Result<(), SignalPending> {
        loop {
            let work = K::exit_work() & K::EXIT_WORK.before_guest();
            if work == 0 {
                return Ok(());
            }
            let PendingExitWork {
                need_resched,
                need_resched_lazy,
                sigpending,
                notify_signal,
                notify_resume,
                own_loop,
                // They need the way to user mode.
                uprobe: _,
                patch_pending: _,
                rseq: _,
                user_return_notify: _,
                own_once: _,
            } = K::EXIT_WORK.pending(work);
            if sigpending | notify_signal != 0 {
                return Err(SignalPending);
            }
            if need_resched | need_resched_lazy != 0 {
                self.hook("schedule", |at| <K as ExitHooks>::schedule(at, work));
            }
            if notify_resume != 0 {
                self.hook("resume_guest_mode_work", K::resume_guest_mode_work);
            }
            if own_loop != 0 {
                self.hook("arch_exit_to_user_mode_work", |at| K::arch_exit_to_user_mode_work(at, work));
            }
        }
    }
}

#[allow(unsafe_code, reason = "moves the context")]
impl<K: Gate> EnteringGuest<'_, K> {
    /// Runs the guest: `enter` is the hardware's entry and returns when the guest was left, called in the context GUEST with
    /// interrupts off. They are on when this returns.
    ///
    /// # Safety
    /// `enter` does nothing but enter the guest: the CPU counts as quiescent while it runs.
    #[inline(always)]
    pub unsafe fn run<T>(self, enter: impl FnOnce() -> T) -> T {
        self.suspend();
        // SAFETY: interrupts are off, as the state says; the guest follows.
        if !unsafe { K::Context::kernel_to_guest() } {
            K::invariant_broken(Broken::GuestFromWrongContext);
        }
        let left = enter();
        // SAFETY: as above; the guest was left.
        if !unsafe { K::Context::guest_to_kernel() } {
            K::invariant_broken(Broken::GuestFromWrongContext);
        }
        // SAFETY: back in the ordinary kernel code that the state came from.
        unsafe { K::Irqs::on() };
        left
    }
}
