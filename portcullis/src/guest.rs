//! Before a virtual machine's guest mode is entered, the same work is due as before user mode.

use crate::host::{InterruptFlag, Tracking};
use crate::kernel::{Broken, Kernel};
use crate::state::{EnteringGuest, InKernel};

/// A signal is pending: the hypervisor gives up its run loop and goes back to user mode, where it is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalPending;

impl<'r, R> InKernel<'r, R> {
    /// Runs pending work until none is left, with interrupts off at the last check.
    ///
    /// # Errors
    /// [`SignalPending`] with interrupts on, if a signal is pending: it is delivered on the way to user mode, not here.
    pub fn xfer_to_guest_mode<K: Kernel<Regs = R>>(
        mut self,
    ) -> Result<EnteringGuest<'r, R>, (InKernel<'r, R>, SignalPending)> {
        loop {
            K::Irqs::off();
            if K::exit_work() & before_guest::<K>() == 0 {
                let mut entering = EnteringGuest::new(self.into_regs());
                K::arch_enter_guest_prepare(&mut entering);
                return Ok(entering);
            }
            K::Irqs::on();
            if let Err(signal) = self.xfer_to_guest_mode_work::<K>() {
                return Err((self, signal));
            }
        }
    }

    /// Runs pending work until none is left, with interrupts on throughout: for a hypervisor that has the last check, with
    /// interrupts off, in its own run loop.
    ///
    /// # Errors
    /// [`SignalPending`] if a signal is pending: it is delivered on the way to user mode, not here.
    pub fn xfer_to_guest_mode_work<K: Kernel<Regs = R>>(&mut self) -> Result<(), SignalPending> {
        let bits = &K::EXIT_WORK;
        loop {
            let work = K::exit_work();
            if work & before_guest::<K>() == 0 {
                return Ok(());
            }
            if work & (bits.sigpending | bits.notify_signal) != 0 {
                return Err(SignalPending);
            }
            if work & (bits.need_resched | bits.need_resched_lazy) != 0 {
                K::schedule(self);
            }
            if work & bits.notify_resume != 0 {
                K::resume_guest_mode_work(self);
            }
            if work & bits.rseq != 0 {
                K::rseq_handle_notify_resume(self);
            }
            if work & K::EXTRA_EXIT_WORK != 0 {
                K::arch_exit_to_user_mode_work(self, work);
            }
        }
    }
}

/// The bits of the exit-work word that are looked at before a guest is entered.
const fn before_guest<K: Kernel>() -> usize {
    K::EXIT_WORK.before_guest() | K::EXTRA_EXIT_WORK
}

impl<'r, R> EnteringGuest<'r, R> {
    /// Runs the guest: `enter` is the hardware's entry and returns when the guest was left. The context is GUEST
    /// meanwhile and interrupts are off on both sides.
    #[inline(always)]
    pub fn run<K: Kernel<Regs = R>, T>(self, enter: impl FnOnce() -> T) -> (InKernel<'r, R>, T) {
        if !K::Context::kernel_to_guest() {
            K::invariant_broken(Broken::GuestFromWrongContext);
        }
        let left = enter();
        if !K::Context::guest_to_kernel() {
            K::invariant_broken(Broken::GuestFromWrongContext);
        }
        K::Irqs::on();
        (InKernel::new(self.into_regs()), left)
    }
}
