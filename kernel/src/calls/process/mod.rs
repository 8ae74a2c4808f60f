//! The system calls by which tasks begin, change, end, wait for each other, and look into each other.

mod clone;
mod clone3;
mod exec;
mod exit;
mod futex;
mod pidfd;
mod vm;

pub use crate::calls::process::clone::*;
pub use crate::calls::process::clone3::*;
pub use crate::calls::process::exec::*;
pub use crate::calls::process::exit::*;
pub use crate::calls::process::futex::*;
pub use crate::calls::process::pidfd::*;
pub use crate::calls::process::vm::*;
