//! What the library asks of the machine: three small traits that an architecture module implements.
//!
//! [`x86_64`](crate::x86_64) has an implementation of each that a new kernel just takes; a host with its own
//! (Linux has lockdep behind its interrupt flag and RCU behind its context tracking) brings its own.

/// The saved registers, as far as the policy looks at them.
pub trait Registers {
    /// Whether they were saved from user mode.
    #[allow(clippy::wrong_self_convention, reason = "where the registers are from")]
    fn from_user(&self) -> bool;
    /// Whether interrupts were on where they were saved.
    fn interrupts_on(&self) -> bool;
    /// The number of the system call under way.
    fn syscall_number(&self) -> i64;
}

/// The CPU's interrupt flag.
pub trait InterruptFlag {
    /// Interrupts on.
    fn on();
    /// Interrupts off.
    fn off();
    /// Whether interrupts are on.
    fn is_on() -> bool;
}

/// Context tracking: who knows whether this CPU is in user mode, the kernel, the idle loop or a guest.
///
/// Each transition says whether the context was what it had to be. The library's own is
/// [`ContextWord`](crate::context::ContextWord), kept per CPU. Called with interrupts off; the code between a door and
/// `user_to_kernel`, and between `kernel_to_user` and a door, is inlined into the door.
pub trait Tracking {
    /// What an interrupt or NMI that hit the kernel has to put back.
    type Saved: Copy;

    /// User mode was left. False if the context was not USER.
    fn user_to_kernel() -> bool;
    /// User mode is about to be entered. False if the context was not KERNEL.
    fn kernel_to_user() -> bool;
    /// The idle loop is about to wait. False if the context was not KERNEL.
    fn kernel_to_idle() -> bool;
    /// The idle loop goes on. False if the context was not IDLE.
    fn idle_to_kernel() -> bool;
    /// A guest is about to be entered. False if the context was not KERNEL.
    fn kernel_to_guest() -> bool;
    /// A guest was left. False if the context was not GUEST.
    fn guest_to_kernel() -> bool;
    /// An interrupt or exception hit the kernel: KERNEL from now on, wherever it hit.
    fn interrupt_enter() -> Self::Saved;
    /// Whether that was ordinary kernel code, and not the idle loop.
    fn hit_kernel(saved: Self::Saved) -> bool;
    /// The interrupt or exception is done: back to what it found. `interrupts_on` says whether going back turns
    /// interrupts on, for a host that keeps account of that.
    fn interrupt_exit(saved: Self::Saved, interrupts_on: bool);
    /// An NMI hit, possibly in the middle of any transition above: KERNEL from now on.
    fn nmi_enter() -> Self::Saved;
    /// The NMI is done: back to what it found.
    fn nmi_exit(saved: Self::Saved);
    /// Whether the context is KERNEL. Interrupts may be on: the answer is that of one CPU at one moment.
    fn in_kernel() -> bool;
}
