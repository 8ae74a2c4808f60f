//! What all files have in common.
//!
//! A descriptor ([`fd`]) refers to an open file ([`mod@file`]), that to an inode ([`inode`]). The kinds of files are in
//! [`fs`](crate::fs).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | write a kind of file | [`inode`], [`mod@file`]: the traits; [`anonymous`] for what has no name |
//! | move bytes between a file and user memory | [`buffer`] |
//! | know what a task's paths start from | [`context`] |
//! | change what is mounted where | [`mount`] |
//! | lock a file, or a part of it | [`locks`] |
//! | know who writes to a file and who runs it | [`write_count`], [`deny_write`] |
//! | sleep while a file is locked | [`sleep_lock`] |

pub mod anonymous;
pub mod buffer;
pub mod context;
pub mod deny_write;
pub mod fd;
pub mod file;
pub mod inode;
pub mod locks;
pub mod mount;
pub mod sleep_lock;
pub mod write_count;
