//! The gate between user mode and an x86 kernel.
//!
//! ```text
//!    user mode
//!       │  a door (assembly): GS, stack, registers into UserRegs
//!       ▼
//!    Arrived     interrupts off · context moved USER → KERNEL, asserted
//!       │
//!       ▼
//!    InKernel    interrupts on  · system call dispatched / exception handled here;
//!       │                         syscall-entry work before, one-time syscall-exit work after
//!       ▼
//!    Leaving     interrupts off · work flags not read yet
//!       │  exit_to_user_mode_loop: while any work is pending
//!       │    interrupts on → reschedule, probes, patching, signals, … → interrupts off → read again
//!       ▼
//!    Cleared     interrupts off · nothing pending · context moved KERNEL → USER, asserted
//!       │  the door: SYSRET where it is exactly equivalent, IRET otherwise
//!       ▼
//!    user mode
//! ```
//!
//! Each box is a type ([`state`]) that cannot be copied, sent to another CPU, or made outside this crate. A door can only
//! return what is made from [`Cleared`]. So exit work that is skipped, run twice or run with interrupts in the wrong
//! state does not compile. What hits the kernel itself takes shorter paths of its own: [`Interrupted`], [`Nmi`].
//!
//! | you want to … | look in |
//! | --- | --- |
//! | write a kernel on this | [`Kernel`], [`x86_64::Doors`], [`x86_64::init_cpu`] |
//! | write it as `loop { match user.run() { … } }` | [`x86_64::user_context`] |
//! | see how a system call comes in and gets out | [`x86_64::syscall`], then [`syscall`], then [`exit`] |
//! | add a kind of exit work | [`work`] (its flag), [`Kernel`] (its hook), [`exit`] (one line in the loop) |
//! | add work to every system call | [`work`], [`Kernel`], [`syscall`] |
//! | raise work from another CPU | [`work::TaskWork::raise`] |
//! | know whether a CPU is quiescent | [`context`] |
//! | follow an exception or interrupt | [`x86_64::exception`], then [`exit`] or [`interrupt`] |
//! | follow an NMI, #DB, #MC, #DF | [`x86_64::paranoid`], [`x86_64::nmi`], then [`nmi`] |
//! | restart interrupted system calls | [`restart`] |
//! | enter a guest | [`guest`] |
//! | keep a trace of what crossed | [`trace`], [`Kernel::trace`] |
//! | give system calls back to user mode | [`user_dispatch`] |
//!
//! Imports point one way: the doors (`x86_64`) use the policy (`syscall`, `exit`, `interrupt`, `nmi`, `guest`, `idle`,
//! `notify`), the policy uses the trait (`kernel`), the trait uses the states (`state`), which use nothing.
#![cfg_attr(not(any(test, loom)), no_std)]
#![deny(unsafe_code)]

pub mod context;
pub mod exit;
pub mod guest;
pub mod host;
pub mod idle;
pub mod interrupt;
pub mod kernel;
pub mod nmi;
pub mod notify;
pub mod restart;
#[allow(
    unsafe_code,
    reason = "the constructors through which a host vouches for a state"
)]
pub mod state;
pub mod syscall;
pub mod trace;
pub mod user_dispatch;
pub mod work;

#[cfg(all(target_arch = "x86_64", not(loom), not(portcullis_policy_only)))]
#[allow(unsafe_code, reason = "the doors")]
pub mod x86_64;

pub use kernel::{Broken, Kernel, Skip};
pub use state::{Arrived, Cleared, InInterrupt, InKernel, InSyscall, Interrupted, Leaving, Nmi};
