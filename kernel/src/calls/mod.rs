//! System calls. A system call is a function `sys_NAME` in this folder: it checks arguments, copies from and to user memory, and
//! calls an operation of a lower layer. `./x lint` reports a function of such a name elsewhere.
//!
//! | system calls | look in |
//! | --- | --- |
//! | by number | [`table64`]; of 32-bit programs [`compat`] |
//! | fork, clone, exec, exit, wait, futexes, pidfds | [`process`] |
//! | files, pipes, poll, epoll, eventfd, timerfd, signalfd | [`fs`] |
//! | sockets | [`net`] |
//! | signals, sigreturn, restart_syscall | [`mod@signal`] |
//! | clocks and sleeping, timers, resource usage | [`clock`], [`timers`], [`usage`] |
//! | mmap and the like; membarrier | [`memory`], [`membarrier`] |
//! | user and group IDs, process groups, sessions | [`credentials`]; [`capabilities`] |
//! | scheduling, CPU affinity | [`affinity`] |
//! | prctl, ptrace, seccomp, rseq, kcmp | the file of that name |
//! | LDT entries, I/O ports | [`ldt`], [`ports`] |
//! | resource limits; host name, random numbers, reboot | [`limits`], [`system_info`] |
//!
//! The calls of the [`vsyscall`] page and the devices by which tests look at the hooks ([`hook_devices`]) are here too.

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
pub mod net;
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
