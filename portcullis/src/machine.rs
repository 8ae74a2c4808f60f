//! The machine under a kernel: its registers, interrupt flag and context tracking. [`x86_64`](crate::x86_64) has them for new
//! kernels; a host that has its own (Linux has lockdep behind its interrupt flag and RCU behind its context tracking)
//! implements the traits itself.

use crate::broken::Broken;

/// What a kernel runs on. The states need no more of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what machine it runs on",
    label = "needs `impl Machine for {Self}`: its registers, interrupt flag and context tracking",
    note = "`portcullis::contract` lists everything that a kernel owes"
)]
pub trait Machine: Sized + 'static {
    /// The user's registers, as the doors save them.
    type Regs: Registers + 'static;
    /// The registers that the doors save where the kernel may have been hit.
    type SavedRegs: Registers + 'static;
    /// The interrupt flag.
    type Irqs: InterruptFlag;
    /// Context tracking.
    type Context: Tracking;

    /// Whether the invariants are checked whose checks cost something, and those of [`Diagnostics`](crate::Diagnostics). A
    /// transition in the wrong context, and a call of the die chain there, are reported in all builds.
    const CHECKS: bool = cfg!(debug_assertions);

    /// An invariant did not hold. May be called with interrupts off, in the context USER, or in an NMI handler. If it returns,
    /// the crossing continues.
    #[cold]
    fn invariant_broken(_broken: Broken) {}
}

/// What the policy reads of saved registers.
pub trait Registers {
    /// Whether they were saved on an entry from user mode.
    #[allow(clippy::wrong_self_convention, reason = "where the registers come from")]
    fn from_user(&self) -> bool;
    /// Whether interrupts were on where they were saved.
    fn interrupts_on(&self) -> bool;
    /// The number of the system call in progress.
    fn syscall_number(&self) -> i64;
    /// The result of the system call that was made.
    fn syscall_result(&self) -> i64;
}

/// The CPU's interrupt flag.
///
/// # Safety
/// The functions do what they say: with interrupts off, the doors use the user's GS base and stack.
pub unsafe trait InterruptFlag {
    /// Turns interrupts on.
    ///
    /// # Safety
    /// The CPU is in ordinary kernel code. A hook with `&mut` [`Leaving`](crate::Leaving), [`Settled`](crate::Settled),
    /// [`Interrupted`](crate::Interrupted), [`InInterrupt`](crate::InInterrupt) or [`NmiContext`](crate::NmiContext) is not,
    /// unless its documentation allows this.
    unsafe fn on();
    /// Turns interrupts off.
    fn off();
    /// Whether interrupts are on.
    fn is_on() -> bool;
}

/// Context tracking: whether this CPU is in user mode, the kernel, the idle loop or a guest. The library's implementation is
/// [`ContextWord`](crate::context::ContextWord), one per CPU.
///
/// # Safety
/// The functions do what they say: grace periods trust the context.
///
/// # Safety of the functions
/// The `unsafe` functions are for this library's transitions: with interrupts off, where the event happens.
#[allow(clippy::missing_safety_doc, reason = "once for all of them, above")]
pub unsafe trait Tracking {
    /// What an interrupt or NMI that hit the kernel has to restore.
    type Saved: Copy;

    /// User mode was left. False if the context was not USER.
    unsafe fn user_to_kernel() -> bool;
    /// User mode is about to be entered. False if the context was not KERNEL.
    unsafe fn kernel_to_user() -> bool;
    /// The idle loop is about to wait. False if the context was not KERNEL.
    unsafe fn kernel_to_idle() -> bool;
    /// The idle loop continues. False if the context was not IDLE.
    unsafe fn idle_to_kernel() -> bool;
    /// A guest is about to be entered. False if the context was not KERNEL.
    unsafe fn kernel_to_guest() -> bool;
    /// A guest was left. False if the context was not GUEST.
    unsafe fn guest_to_kernel() -> bool;
    /// An interrupt or exception hit the kernel: KERNEL from now on, wherever it hit.
    unsafe fn interrupt_enter() -> Self::Saved;
    /// Whether that hit the context KERNEL, and not the idle loop.
    fn found_kernel(saved: Self::Saved) -> bool;
    /// The interrupt or exception is done: restores what it found. `interrupts_on`: the return turns interrupts on, for a host that
    /// accounts for that.
    unsafe fn interrupt_exit(saved: Self::Saved, interrupts_on: bool);
    /// An NMI hit, possibly inside a transition above: KERNEL from now on.
    #[inline(always)]
    unsafe fn nmi_enter() -> Self::Saved {
        // SAFETY: the caller's.
        unsafe { Self::interrupt_enter() }
    }
    /// The NMI is done: restores what it found.
    #[inline(always)]
    unsafe fn nmi_exit(saved: Self::Saved) {
        // SAFETY: the caller's.
        unsafe { Self::interrupt_exit(saved, false) }
    }
    /// Whether the context is KERNEL. Interrupts may be on: must read one CPU's context at one moment.
    fn in_kernel() -> bool;
}
