//! 32-bit system calls: the i386 table, and what its structures look like.
//!
//! A call of either table is made by the same functions. What differs is converted where it is read from, or written to, user
//! memory: functions that take a [`Width`](crate::memory::Width) know both layouts; the rest is here, a file for each
//! subject.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`table`] | the calls by number |

pub mod table;
