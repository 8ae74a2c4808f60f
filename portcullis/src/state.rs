//! The states of a crossing, as types.
//!
//! A value of one of these types is the right to do what may be done in that state. It cannot be copied, cannot leave
//! its CPU (it is neither `Send` nor `Sync`), and cannot be made outside this crate but through the `unsafe`
//! constructors below, of which a door calls the first. A transition consumes one value and returns the next.
//!
//! All of them are one pointer: the registers that the door saved. They cost nothing.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// Makes a type neither `Send` nor `Sync`: a state belongs to the CPU, or the task, that is in it.
type NotSend = PhantomData<*mut ()>;

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[must_use = "a state that is dropped leaves the crossing unfinished"]
        #[repr(transparent)]
        pub struct $name<'r, R> {
            regs: &'r mut R,
            not_send: NotSend,
        }

        impl<'r, R> $name<'r, R> {
            #[inline(always)]
            pub(crate) fn new(regs: &'r mut R) -> Self {
                $name { regs, not_send: PhantomData }
            }

            #[inline(always)]
            #[allow(dead_code, reason = "not every state is left for another one")]
            pub(crate) fn into_regs(self) -> &'r mut R {
                self.regs
            }

            /// The registers that the door saved.
            #[inline(always)]
            pub fn regs(&mut self) -> &mut R {
                self.regs
            }

            /// The registers that the door saved, to look at.
            #[inline(always)]
            pub fn saved(&self) -> &R {
                self.regs
            }
        }
    )*};
}

states! {
    /// User mode was just left: interrupts off, context KERNEL, thread stack.
    Arrived;
    /// Ordinary kernel code on behalf of user mode: interrupts on, context KERNEL, thread stack. May sleep, and may
    /// come back on another CPU.
    InKernel;
    /// On the way out: interrupts off, context KERNEL. The work flags have not been read yet.
    Leaving;
    /// The way out is free: interrupts off, no work pending at the last read, context USER. Nothing may run but the
    /// door.
    Cleared;
    /// An interrupt or exception hit the kernel itself: interrupts off, context KERNEL. It goes back where it came
    /// from; there is no way from here to user mode.
    Interrupted;
    /// A device interrupt or IPI is being handled: interrupts off, context KERNEL, IRQ stack. May not sleep.
    InInterrupt;
    /// An NMI, machine check or kernel-mode debug exception: it may have hit anything, locks and transitions
    /// included. Interrupts off, context KERNEL. May take no lock that is taken elsewhere.
    Nmi;
    /// About to enter a guest: interrupts off, no work pending at the last read, context KERNEL.
    EnteringGuest;
}

/// A system call is being handled: [`InKernel`], and the syscall-entry work is done. Its only way on runs the
/// syscall-exit work, so that runs exactly once.
#[must_use = "a system call that is dropped skips its exit work"]
#[repr(transparent)]
pub struct InSyscall<'r, R>(InKernel<'r, R>);

impl<'r, R> InSyscall<'r, R> {
    #[inline(always)]
    pub(crate) fn new(at: InKernel<'r, R>) -> Self {
        InSyscall(at)
    }

    #[inline(always)]
    pub(crate) fn into_inner(self) -> InKernel<'r, R> {
        self.0
    }
}

impl<'r, R> Deref for InSyscall<'r, R> {
    type Target = InKernel<'r, R>;
    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<R> DerefMut for InSyscall<'_, R> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

macro_rules! assume {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        impl<'r, R> $name<'r, R> {
            $(#[$doc])*
            #[inline(always)]
            pub unsafe fn assume(regs: &'r mut R) -> Self {
                Self::new(regs)
            }
        }
    )*};
}

assume! {
    /// Takes the state up again where code of the host stood between two calls of this crate.
    ///
    /// # Safety
    /// User mode was just left, interrupts are off, the context has been moved from USER to KERNEL, and no other state
    /// of this crossing exists. `regs` are the registers that the door saved.
    Arrived;
    /// Takes the state up again where code of the host stood between two calls of this crate.
    ///
    /// # Safety
    /// Interrupts are on, the context is KERNEL, the thread stack is in use, and no other state of this crossing
    /// exists. `regs` are the registers that the door saved.
    InKernel;
    /// A task's first way out: after fork, or when the first program starts. Also takes the state up again where code
    /// of the host stood between two calls of this crate.
    ///
    /// # Safety
    /// Interrupts are off, the context is KERNEL, the thread stack is in use, and no other state of this crossing
    /// exists. `regs` are what user mode is to start with, at the top of the thread stack.
    Leaving;
    /// Takes the state up again where code of the host stood between two calls of this crate.
    ///
    /// # Safety
    /// The kernel was hit, interrupts are off, [`Interrupted::enter_from_kernel`] has run, and no other state of this
    /// crossing exists. `regs` are the registers that the door saved.
    Interrupted;
    /// Takes the state up again where code of the host stood between two calls of this crate.
    ///
    /// # Safety
    /// Interrupts are off, [`Nmi::enter_from_kernel`] has run, and no other state of this crossing exists. `regs` are the
    /// registers that the door saved.
    Nmi;
}
