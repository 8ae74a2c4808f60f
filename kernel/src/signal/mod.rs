//! Signals: sending them, stopping and continuing, what an exception becomes.
//!
//! A signal is sent ([`send`]), waits as pending ([`signals`](crate::task::signals)), and is delivered by its receiver on the way
//! to user mode ([`signal_delivery`](crate::work::signal_delivery), called by the library's exit work while SIGPENDING is raised).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | send a signal from elsewhere in the kernel | [`send`]; for a fault of the current task [`force_fault`] |
//! | see what `siginfo_t` is to 32-bit programs | [`info32`] |
//! | change which signal an exception becomes | [`exception`] |
//! | change how a signal chooses its thread, or wakes it | [`send`] |
//! | change stopping, continuing, SIGCHLD, terminal rules | [`job`] |
//! | change who may signal whom | [`permission`], [`kill`] |
//! | change a system call | `calls/signal.rs`, `calls/timers.rs`, `calls/fs/signalfd.rs` |
//!
//! **Locks.** Process tree → `Process::signals` → one `Task::signals` → `SigHand` → wait queues → run queue. Everyone who
//! sends holds `Process::signals`; so does a task when it decides that nothing is pending. That is why taking the flag
//! down can lose nothing.

pub mod child_info;
pub mod end;
pub mod exception;
pub mod fpstate;
pub mod info32;
pub mod interval_timers;
pub mod job;
pub mod kill;
pub mod mask;
pub mod permission;
pub mod posix_timers;
pub mod readers;
pub mod send;
pub mod signalfd;
pub mod take;

pub use crate::task::signals::action::{Action, SigHand};
pub use crate::task::signals::info::SigInfo;
pub use crate::task::signals::set::*;
pub use crate::task::signals::state::TaskSignals;
pub use exception::{force_exception, force_fatal, force_fault, force_page_fault, force_page_fault_of};
pub use job::exit_thread;
