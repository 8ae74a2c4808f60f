//! What all files have in common: descriptors, open files, inodes, buffers, polling.
//!
//! A descriptor ([`fd`]) refers to an open file ([`mod@file`]), that to an inode ([`inode`]). The kinds of files are in
//! [`fs`](crate::fs).

pub mod anonymous;
pub mod buffer;
pub mod context;
pub mod fd;
pub mod file;
pub mod inode;
pub mod locks;
pub mod sleep_lock;
pub mod write_count;
