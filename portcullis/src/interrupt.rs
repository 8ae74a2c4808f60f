//! Interrupts and exceptions that hit the kernel itself: the second, shorter path.
//!
//! One rule says who tells the context tracking: the door's state does, and nobody else. From user mode it is
//! [`Arrived`], from the kernel [`Interrupted`]; a handler is never asked to.

use crate::host::{InterruptFlag, Registers, Tracking};
use crate::kernel::{Broken, Kernel};
use crate::state::{Arrived, InInterrupt, Interrupted};
use crate::trace::Event;

/// What [`Interrupted::enter_from_kernel`] found, for [`Interrupted::exit_to_kernel`].
pub type Saved<K> = <<K as Kernel>::Context as Tracking>::Saved;

impl<'r, R: Registers> Interrupted<'r, R> {
    /// The kernel was hit: KERNEL from now on. Costs an atomic operation only where the idle loop was hit.
    ///
    /// # Safety
    /// The CPU was in the kernel, interrupts are off, and `regs` are what the door saved. No other state of this
    /// crossing exists.
    #[inline(always)]
    #[allow(unsafe_code, reason = "here a door makes the first state")]
    pub unsafe fn enter_from_kernel<K: Kernel<Regs = R>>(regs: &'r mut R) -> (Self, Saved<K>) {
        let saved = K::Context::interrupt_enter();
        K::trace(Event::FromKernel, 0);
        (Interrupted::new(regs), saved)
    }

    /// Back to the kernel, by way of another task if one should run and preemption is enabled. The idle loop is not
    /// preempted: it looks for itself.
    ///
    /// Interrupts are off.
    #[inline(always)]
    pub fn exit_to_kernel<K: Kernel<Regs = R>>(mut self, saved: Saved<K>) {
        let interrupts_on = self.saved().interrupts_on();
        if K::CHECKS {
            if K::Irqs::is_on() {
                K::invariant_broken(Broken::InterruptsOn);
            }
            if interrupts_on && K::Context::hit_kernel(saved) {
                K::check_preemption_point();
            }
        }
        if K::preempt_count() == 0
            && K::exit_work() & K::EXIT_WORK.need_resched != 0
            && interrupts_on
            && K::Context::hit_kernel(saved)
        {
            K::preempt_schedule_irq(&mut self);
        }
        K::trace(Event::ToKernel, 0);
        K::Context::interrupt_exit(saved, interrupts_on);
    }

    /// Back to the handler that was hit, on the IRQ stack, where no other task may run.
    #[inline(always)]
    pub fn exit_to_handler<K: Kernel<Regs = R>>(self, saved: Saved<K>) {
        let interrupts_on = self.saved().interrupts_on();
        K::trace(Event::ToKernel, 0);
        K::Context::interrupt_exit(saved, interrupts_on);
    }

    /// The state in which the handler of a device interrupt runs.
    #[inline(always)]
    pub fn in_interrupt(&mut self) -> InInterrupt<'_, R> {
        InInterrupt::new(self.regs())
    }
}

impl<R> Arrived<'_, R> {
    /// The state in which the handler of a device interrupt runs.
    #[inline(always)]
    pub fn in_interrupt(&mut self) -> InInterrupt<'_, R> {
        InInterrupt::new(self.regs())
    }
}
