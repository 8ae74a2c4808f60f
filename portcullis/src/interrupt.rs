//! What hits the kernel itself: interrupts and exceptions on a second, shorter path; NMIs on a third, safe wherever it hits.
//!
//! The state with which a door starts moves the context, not its handler: from user mode [`Arrived`](crate::Arrived), from the
//! kernel [`Interrupted`] or [`NmiContext`]. An NMI that hit user mode takes the ordinary way out. One that hit the kernel may
//! have hit the middle of a transition, so it restores the context that it found; an [`NmiContext`] cannot name the exit loop.

use crate::broken::Broken;
use crate::kernel::{Gate, returned};
use crate::machine::{InterruptFlag, Machine, Registers, Tracking};
use crate::state::{Interrupted, NmiContext};
use crate::trace::Event;

/// What [`Interrupted::enter_from_kernel`] found, for [`Interrupted::exit_to_kernel`].
pub type Saved<K> = <<K as Machine>::Context as Tracking>::Saved;

#[allow(unsafe_code, reason = "a door makes the first state; moves the context")]
impl<'r, K: Gate> Interrupted<'r, K> {
    /// The kernel was hit: KERNEL from now on.
    ///
    /// # Safety
    /// The CPU was in the kernel, interrupts are off, and `regs` are what the door saved. No other state of this
    /// crossing exists.
    #[inline(always)]
    pub unsafe fn enter_from_kernel(regs: &'r mut K::SavedRegs) -> (Self, Saved<K>) {
        // SAFETY: the caller's.
        let saved = unsafe { K::Context::interrupt_enter() };
        K::trace(Event::FromKernel, 0);
        (Interrupted::new(regs), saved)
    }

    /// Back to the kernel. If another task should run, it does so first, unless what was hit has preemption or interrupts disabled
    /// or is the idle loop, which looks for itself. Interrupts are off.
    #[inline(always)]
    pub fn exit_to_kernel(mut self, saved: Saved<K>) {
        let interrupts_on = self.saved().interrupts_on();
        if K::CHECKS {
            if K::Irqs::is_on() {
                K::invariant_broken(Broken::InterruptsOn);
                K::Irqs::off();
            }
            if interrupts_on && K::Context::found_kernel(saved) {
                K::check_preemption_point();
            }
        }
        if K::preempt_count() == 0
            && K::exit_work() & K::EXIT_WORK.need_resched != 0
            && interrupts_on
            && K::Context::found_kernel(saved)
        {
            self.lend(K::preempt_schedule_irq);
            returned::<K>("preempt_schedule_irq", false);
        }
        self.exit_to_handler(saved);
    }

    /// Back to what was hit, without preemption: for the IRQ stack, where no other task may run.
    #[inline(always)]
    pub fn exit_to_handler(self, saved: Saved<K>) {
        let interrupts_on = self.into_regs().interrupts_on();
        K::trace(Event::ToKernel, 0);
        // SAFETY: the door follows, interrupts are off, and `saved` is what the entry found.
        unsafe { K::Context::interrupt_exit(saved, interrupts_on) };
    }
}

#[allow(unsafe_code, reason = "a door makes the first state; moves the context")]
impl<'r, K: Gate> NmiContext<'r, K> {
    /// The kernel was hit: KERNEL from now on, whatever the context was.
    ///
    /// # Safety
    /// The CPU was in kernel mode, interrupts are off, and `regs` are what the door saved. No other state of this
    /// crossing exists.
    #[inline(always)]
    pub unsafe fn enter_from_kernel(regs: &'r mut K::SavedRegs) -> (Self, Saved<K>) {
        // SAFETY: the caller's.
        let saved = unsafe { K::Context::nmi_enter() };
        K::trace(Event::NmiEnter, 0);
        (NmiContext::new(regs), saved)
    }

    /// Back to where it hit.
    #[inline(always)]
    pub fn exit_to_kernel(self, saved: Saved<K>) {
        self.suspend();
        K::trace(Event::NmiExit, 0);
        // SAFETY: the door follows, interrupts are off, and `saved` is what the entry found.
        unsafe { K::Context::nmi_exit(saved) };
    }

    /// Calls a handler, and checks what it leaves.
    #[inline(always)]
    #[cfg(all(target_arch = "x86_64", not(loom), not(portcullis_policy_only)))]
    pub(crate) fn handle(&mut self, name: &'static str, handler: impl FnOnce(&mut NmiContext<'_, K>)) {
        self.lend(handler);
        crate::kernel::returned_anywhere::<K>(name, false);
    }
}
