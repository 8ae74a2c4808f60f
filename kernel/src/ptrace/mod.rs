//! ptrace: one thread, the tracer, watches and steers another one, the tracee.
//!
//! The tracee stops itself, in its own name, at a few well-known places: before it takes a signal, at the entry and exit of
//! a system call, at fork, exec and exit, when it is told to. It then sleeps in the state TRACED until the tracer, or
//! SIGKILL, lets it go on. Only while it sleeps there may the tracer look at its registers and change them: those that its
//! door saved, which it lends ([`lent`](crate::sched::lent)), its saved segments and its saved extended state.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know who traces whom: attach, detach, fork, exit | [`attach`] |
//! | stop the current task for its tracer | [`stop`] |
//! | change a request | [`request`], and there what it names |
//! | read and write a tracee's registers | [`registers`], [`regset`], [`extended`] |
//! | single-step, debug registers | [`step`], [`debug`] |
//! | what is asked about signals and system calls | [`events`] |
//! | memory of other processes | [`process_vm`]; who may see it [`task::access`](crate::task::credentials::access) |
//! | what a 32-bit tracer calls | [`compat`] |
//!
//! **Locks.** Who traces whom changes under the process tree's lock. What a stop is about is in
//! [`TaskSignals`](crate::signal::TaskSignals), under its lock. Between [`request`]'s check that the tracee is stopped and
//! the end of the request the tracee is *frozen*: nothing but the tracer wakes it, SIGKILL included, so that its registers
//! hold still.

pub mod attach;
pub mod compat;
pub mod debug;
pub mod events;
pub mod extended;
pub mod process_vm;
pub mod registers;
mod registers32;
pub mod regset;
pub mod request;
pub mod step;
pub mod stop;

pub use crate::task::trace_state::Event;
