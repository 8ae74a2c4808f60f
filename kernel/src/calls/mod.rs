//! System calls: the 64-bit table ([`table64`]), the 32-bit one ([`compat`]), and what they call.
//!
//! A call that belongs to one room stands there (`life::fork`, `fs::pipe`); here are those that belong to none, or only check
//! arguments.

pub mod capabilities;
pub mod clock;
pub mod compat;
pub mod credentials;
pub mod fs;
pub mod hook_devices;
pub mod kcmp;
pub mod ldt;
pub mod limits;
pub mod membarrier;
pub mod memory;
pub mod ports;
pub mod prctl;
pub mod ptrace;
pub mod signal;
pub mod system_info;
pub mod table64;
pub mod vsyscall;
