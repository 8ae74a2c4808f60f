//! The states of a crossing, as types.
//!
//! A value of one of these types is the right to do what may be done in that state. It cannot be copied or sent to another
//! thread, belongs to one kernel `K`, and comes from a door, from the transition that consumed the state before, or from
//! unsafe code of the host ([`assume`](InKernel::assume)). It is one pointer, to the registers that the door saved.
//!
//! A state that is dropped leaves its crossing unfinished. The compiler warns about an unused one (`#[must_use]`); with
//! [`Machine::CHECKS`] the drop is reported ([`Broken::StateDropped`]).

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::broken::Broken;
use crate::machine::Machine;

/// What brought the CPU in, which decides what work is due and which ways out exist.
pub trait Crossing: sealed::Sealed {
    /// A system call, and not an exception or interrupt.
    const SYSCALL: bool;
    /// A system call of the 32-bit table: its end is reported to [`Kernel::compat_call`](crate::Kernel::compat_call).
    const COMPAT: bool;
}

macro_rules! crossings {
    ($($(#[$doc:meta])* $name:ident: $syscall:literal, $compat:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Crossing for $name {
            const SYSCALL: bool = $syscall;
            const COMPAT: bool = $compat;
        }
    )*};
}

crossings! {
    /// A 64-bit system call.
    Syscall: true, false;
    /// A 32-bit system call.
    Syscall32: true, true;
    /// An exception, interrupt or NMI.
    Event: false, false;
    /// Any of them: the hooks' type.
    Any: false, false;
}

mod sealed {
    pub trait Sealed {}
}

/// Makes a type neither `Send` nor `Sync`.
type NotSend = PhantomData<*mut ()>;

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident<$k:ident $(, $c:ident = $default:ty)?>: $regs:ident $($access:ident)?;)*) => {$(
        $(#[$doc])*
        #[must_use = "a state that is dropped leaves the crossing unfinished"]
        #[repr(transparent)]
        pub struct $name<'r, $k: Machine $(, $c = $default)?> {
            regs: &'r mut $k::$regs,
            not_send: NotSend,
            of: PhantomData<($k, $($c)?)>,
        }

        impl<'r, $k: Machine $(, $c)?> $name<'r, $k $(, $c)?> {
            #[inline(always)]
            pub(crate) fn new(regs: &'r mut $k::$regs) -> Self {
                $name { regs, not_send: PhantomData, of: PhantomData }
            }

            #[inline(always)]
            pub(crate) fn into_regs(self) -> &'r mut $k::$regs {
                let this = ManuallyDrop::new(self);
                // SAFETY: `this` is neither used nor dropped afterwards.
                unsafe { core::ptr::read(&this.regs) }
            }

            /// Runs a hook with the state, which it does not own.
            #[inline(always)]
            #[allow(dead_code, reason = "not every state is lent")]
            pub(crate) fn lend<T>(&mut self, hook: impl FnOnce(&mut $name<'_, $k>) -> T) -> T {
                hook(&mut ManuallyDrop::new($name::new(&mut *self.regs)))
            }

            /// The registers that the door saved.
            #[inline(always)]
            pub fn saved(&self) -> &$k::$regs {
                self.regs
            }

            $(states!(@$access $k $regs);)?

            /// Gives the state up to code of the host, which resumes it ([`assume`](InKernel::assume)) or, after [`Cleared`],
            /// enters user mode.
            #[inline(always)]
            pub fn suspend(self) {
                let _ = self.into_regs();
            }
        }

        impl<$k: Machine $(, $c)?> Drop for $name<'_, $k $(, $c)?> {
            #[inline(always)]
            fn drop(&mut self) {
                if $k::CHECKS {
                    $k::invariant_broken(Broken::StateDropped { state: stringify!($name) });
                }
            }
        }
    )*};
    (@users $k:ident $regs:ident) => {
        /// The user's registers, to write.
        #[inline(always)]
        pub fn regs(&mut self) -> &mut $k::$regs {
            self.regs
        }
    };
    (@kernels $k:ident $regs:ident) => {
        /// The registers that the door saved, to write.
        ///
        /// # Safety
        /// They may be the kernel's: the code that was hit continues with them.
        #[inline(always)]
        pub unsafe fn regs_mut(&mut self) -> &mut $k::$regs {
            self.regs
        }
    };
}

states! {
    /// User mode was just left: interrupts off, context KERNEL, thread stack.
    Arrived<K, C = Any>: Regs users;
    /// Ordinary kernel code for user mode: interrupts on, context KERNEL, thread stack. May sleep, and continue on another CPU.
    InKernel<K, C = Any>: Regs users;
    /// On the way out: interrupts off, context KERNEL. The exit-work word has not been read since interrupts went off.
    Leaving<K, C = Any>: Regs users;
    /// The exit-work word was read with interrupts off, and no work of the loop was pending: interrupts off, context KERNEL. Exit
    /// work must not be raised here, except by the hook that may send the task back into the loop.
    Settled<K, C = Any>: Regs users;
    /// User mode follows: interrupts off, context USER. Nothing but the door may run.
    Cleared<K, C = Any>: Regs;
    /// An interrupt or exception hit the kernel: context KERNEL, and interrupts off but for what the hook's documentation allows.
    /// Returns to what was hit; no transition leads to user mode.
    Interrupted<K>: SavedRegs kernels;
    /// A device interrupt or IPI is being handled: interrupts off, context KERNEL, IRQ stack. Must not sleep.
    InInterrupt<K>: SavedRegs kernels;
    /// An NMI, or an exception that like an NMI may have hit anything, locks and transitions included: #MC, #DF, and #DB in the
    /// kernel. Interrupts off, context KERNEL. Must take no lock that is taken elsewhere.
    NmiContext<K>: SavedRegs kernels;
    /// About to enter a guest: interrupts off, context KERNEL, nothing due before a guest pending at the last read.
    EnteringGuest<K>: Regs;
}

impl<'r, K: Machine, C> InKernel<'r, K, C> {
    /// Lends the registers while this task waits, to a tracer that changes those of a stopped task. Until the result is dropped
    /// the task itself cannot reach them.
    #[inline(always)]
    pub fn lend_regs(&mut self) -> LentRegs<'_, K::Regs> {
        LentRegs { regs: NonNull::from_mut(self.regs), of: PhantomData }
    }
}

/// Registers that a waiting task has lent ([`InKernel::lend_regs`]).
#[derive(Debug)]
pub struct LentRegs<'a, R> {
    regs: NonNull<R>,
    of: PhantomData<&'a mut R>,
}

impl<R> LentRegs<'_, R> {
    /// Where they are. They may be accessed while the task waits, by one tracer at a time; both are for the kernel to ensure.
    pub fn as_ptr(&self) -> NonNull<R> {
        self.regs
    }
}

/// A system call is being handled: [`InKernel`], and the system-call work at entry is done. [`finish`](Self::finish) consumes it
/// and does the work at exit.
#[must_use = "a system call that is dropped skips its exit work"]
#[repr(transparent)]
pub struct InSyscall<'r, K: Machine, C = Any>(InKernel<'r, K, C>);

impl<'r, K: Machine, C> InSyscall<'r, K, C> {
    #[inline(always)]
    pub(crate) fn new(at: InKernel<'r, K, C>) -> Self {
        InSyscall(at)
    }

    #[inline(always)]
    pub(crate) fn into_inner(self) -> InKernel<'r, K, C> {
        self.0
    }

    #[inline(always)]
    pub(crate) fn lend<T>(&mut self, hook: impl FnOnce(&mut InSyscall<'_, K>) -> T) -> T {
        hook(&mut ManuallyDrop::new(InSyscall(InKernel::new(&mut *self.0.regs))))
    }
}

impl<'r, K: Machine, C> Deref for InSyscall<'r, K, C> {
    type Target = InKernel<'r, K, C>;
    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Machine, C> DerefMut for InSyscall<'_, K, C> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

macro_rules! assume {
    ($($(#[$doc:meta])* $name:ident<$k:ident $(, $c:ident: $bound:path)?>: $regs:ident;)*) => {$(
        impl<'r, $k: Machine $(, $c: $bound)?> $name<'r, $k $(, $c)?> {
            /// Resumes a state that code of the host has suspended ([`suspend`](Self::suspend)).
            ///
            $(#[$doc])*
            #[inline(always)]
            pub unsafe fn assume(regs: &'r mut $k::$regs) -> Self {
                Self::new(regs)
            }
        }
    )*};
}

assume! {
    /// # Safety
    /// Interrupts are on, the context is KERNEL, the thread stack is in use, and no other state of this crossing exists.
    /// `regs` are the registers that the door saved.
    InKernel<K, C: Crossing>: Regs;
    /// # Safety
    /// Interrupts are off, the context is KERNEL, the thread stack is in use, and no other state of this crossing
    /// exists. `regs` are the registers that the door saved.
    Leaving<K, C: Crossing>: Regs;
    /// # Safety
    /// The kernel was hit, interrupts are off, [`Interrupted::enter_from_kernel`] has run, and no other state of this
    /// crossing exists. `regs` are the registers that the door saved.
    Interrupted<K>: SavedRegs;
    /// # Safety
    /// Interrupts are off, [`NmiContext::enter_from_kernel`] has run, and no other state of this crossing exists. `regs` are
    /// the registers that the door saved.
    NmiContext<K>: SavedRegs;
}

impl<'r, K: Machine, C: Crossing> InSyscall<'r, K, C> {
    /// For a host that makes the system call itself, and for a new task, whose first way out is the end of the system call that
    /// made it.
    ///
    /// # Safety
    /// That of [`InKernel::assume`]; the system-call work at entry, if any was due, is done.
    #[inline(always)]
    pub unsafe fn assume(regs: &'r mut K::Regs) -> Self {
        InSyscall(InKernel::new(regs))
    }
}
