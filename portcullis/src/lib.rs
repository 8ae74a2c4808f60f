//! The gate between user mode and an x86 kernel.
//!
//! ```text
//!    user mode
//!       │  a door (assembly): GS, stack, registers into UserRegs
//!       ▼
//!    Arrived     interrupts off · context USER → KERNEL, asserted · a system call and an event arrive as different types
//!       │
//!       ▼
//!    InKernel    interrupts on  · the call is dispatched / the exception handled here;
//!       │                         system-call work before and after the call
//!       ▼
//!    Leaving     interrupts off · the exit-work word has not been read
//!       │  loop: while work is pending: interrupts on → do it → interrupts off → read again
//!       ▼
//!    Settled     interrupts off · no loop work pending at the last read · the last hooks; one may go back to Leaving
//!       │
//!       ▼
//!    Cleared     interrupts off · context KERNEL → USER, asserted · nothing may run but the door
//!       │  SYSRET where it is equivalent, IRET otherwise
//!       ▼
//!    user mode
//! ```
//!
//! Each box is a type ([`state`]) that cannot be copied or sent to another thread, belongs to one kernel, and is made by the
//! transition from the one before. The Rust half of a door from user mode returns a [`WayOut`](x86_64::WayOut), which is made
//! from [`Cleared`]. What hits the kernel itself takes shorter paths: [`Interrupted`], [`NmiContext`].
//!
//! | you want to … | look in |
//! | --- | --- |
//! | write a kernel on this | [`contract`]: what a kernel owes, in order |
//! | write it as `loop { match user.run() { … } }` | the package `portcullis-user-loop` |
//! | follow a system call | [`x86_64::syscall64`], then [`syscall`], then [`exit`] |
//! | see which vector takes which door | [`x86_64::doors::TABLE`] |
//! | add exit work of your kernel's own | [`contract`], "Exit work of your own" |
//! | add a kind of exit work or system-call work | [`work`]: a line in the list |
//! | raise work from another CPU | [`work::WorkFlags::raise`] |
//! | know whether a CPU is quiescent | [`context`], [`idle`] |
//! | follow an exception or interrupt | [`x86_64::exception`], then [`exit`] or [`interrupt`] |
//! | follow an NMI, #DB, #MC, #DF | [`x86_64::paranoid`], [`x86_64::nmi`], then [`interrupt`] |
//! | enter a guest | [`guest`] |
//! | keep a trace of what crossed | [`trace`], the package `portcullis-trace` |
//! | restart interrupted system calls as Linux does, or return them to user mode as SIGSYS | the package `portcullis-linux-abi` |
#![cfg_attr(not(any(test, loom)), no_std)]
#![deny(unsafe_code, unused_variables)]
#![allow(clippy::new_without_default, reason = "what `new` makes is for statics")]

// The unit tests share a kernel with the other tests, which name this crate from outside.
#[cfg(test)]
extern crate self as portcullis;

pub mod broken;
#[allow(unsafe_code, reason = "the caller vouches for a change of the context")]
pub mod context;
pub mod contract;
pub mod die;
pub mod exit;
pub mod guest;
#[allow(unsafe_code, reason = "the caller vouches for a change of the context")]
pub mod idle;
pub mod interrupt;
pub mod kernel;
#[allow(unsafe_code, reason = "what is for the transitions is declared unsafe")]
pub mod machine;
#[allow(unsafe_code, reason = "a host vouches for a state that it makes")]
pub mod state;
pub mod syscall;
pub mod trace;
pub mod work;

#[cfg(all(target_arch = "x86_64", not(loom), not(portcullis_policy_only)))]
#[allow(unsafe_code, reason = "the doors")]
pub mod x86_64;

pub use broken::{Broken, Wrong};
pub use kernel::{Again, Diagnostics, ExitHooks, Gate, GuestHooks, Kernel, Skip, SyscallHooks};
pub use machine::Machine;
pub use state::{
    Arrived, Cleared, Event, InInterrupt, InKernel, InSyscall, Interrupted, Leaving, NmiContext, Settled, Syscall,
    Syscall32,
};
