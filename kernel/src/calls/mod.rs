//! System calls: the 64-bit table ([`table64`]), the 32-bit one ([`compat`]), and what they call.
//!
//! A call that is about one room's own business stands there (`life::fork`, `fs::epoll`). Here are those that combine rooms, ask for
//! rights, or only check arguments: on files ([`fs`]), on [`memory`], on [`signal`]s, [`clock`]s, [`credentials`] and so on. The
//! calls of the [`vsyscall`] page, and the devices by which tests look at the hooks ([`hook_devices`]), are here too.

pub mod affinity;
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
pub mod process;
pub mod ptrace;
pub mod rseq;
pub mod seccomp;
pub mod signal;
pub mod system_info;
pub mod table64;
pub mod timers;
pub mod usage;
pub mod vsyscall;
