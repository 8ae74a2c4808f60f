//! 32-bit system calls: the i386 table, and what its structures look like.
//!
//! A call of either table is made by the same functions. What differs is converted where it is read from, or written to, user
//! memory: functions that take a [`Width`](crate::memory::Width) know both layouts; the rest is here, a file for each
//! subject.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`table`] | the calls by number |
//! | [`sys_ia32`] | calls whose arguments lie in memory, or in two registers |
//! | [`signals`] | `sigaction` in its three forms, masks of 32 signals |
//! | [`stat`] | `stat`, `stat64`, `statfs`, `statfs64` |
//! | [`uid16`] | user and group ids of 16 bits |
//! | [`thread_area`] | the thread's entries of the GDT, which 64-bit programs have no call for |
//!
//! Structures of C's longs are read and written by [`memory::c_long`](crate::memory::c_long), `siginfo_t` by
//! [`signal::info32`](crate::signal::info32).

mod signals;
mod stat;
mod sys_ia32;
pub mod table;
mod thread_area;
mod uid16;
