//! NMIs, machine checks and kernel-mode debug exceptions: the third path, safe wherever it hits.
//!
//! One that hit user mode is an [`Arrived`] and takes the ordinary way out. One that hit the kernel may have hit the
//! middle of any transition, so it keeps what it found and puts it back, and there is nothing else it can do: an
//! [`Nmi`] has no way to name the exit loop.

use crate::host::Tracking;
use crate::interrupt::Saved;
use crate::kernel::Kernel;
use crate::state::{Arrived, Nmi};
use crate::trace::Event;

impl<'r, R> Nmi<'r, R> {
    /// The kernel was hit: KERNEL from now on, whatever the context was.
    ///
    /// # Safety
    /// The CPU was in kernel mode, interrupts are off, and `regs` are what the door saved. No other state of this
    /// crossing exists.
    #[inline(always)]
    #[allow(unsafe_code, reason = "here a door makes the first state")]
    pub unsafe fn enter_from_kernel<K: Kernel<Regs = R>>(regs: &'r mut R) -> (Self, Saved<K>) {
        let saved = K::Context::nmi_enter();
        K::trace(Event::NmiEnter, 0);
        (Nmi::new(regs), saved)
    }

    /// Back to where it hit.
    #[inline(always)]
    pub fn exit_to_kernel<K: Kernel<Regs = R>>(self, saved: Saved<K>) {
        K::trace(Event::NmiExit, 0);
        K::Context::nmi_exit(saved);
    }
}

impl<R> Arrived<'_, R> {
    /// The state in which the handler of an NMI that hit user mode runs: the same as for one that hit the kernel, so
    /// that a kernel writes one handler.
    #[inline(always)]
    pub fn as_nmi(&mut self) -> Nmi<'_, R> {
        Nmi::new(self.regs())
    }
}
