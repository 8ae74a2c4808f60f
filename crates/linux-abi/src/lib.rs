//! Decisions of the Linux ABI at the boundary, for kernels that run Linux programs. Plain logic, of no kernel and no machine.
#![no_std]
#![forbid(unsafe_code)]

pub mod restart;
pub mod user_dispatch;
