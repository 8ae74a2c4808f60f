//! The reference kernel of Portcullis.
//!
//! It exists so that the hooks of the library have true consumers (docs/hooks.md says which have none) and programs that
//! nobody here wrote walk its doors. `gate.rs` is where the kernel meets the library; start there.
#![no_std]
#![no_main]

extern crate alloc;

mod audit;
mod boot;
mod compat;
mod cpu;
mod errno;
mod fs;
mod gate;
mod instruction;
mod machine_check;
mod memory;
mod nospec;
mod panic;
mod patch;
mod ptrace;
mod rcu;
mod return_notifier;
mod rseq;
mod seccomp;
mod segments;
mod signal;
mod sync;
mod syscall;
mod task;
mod time;
mod trace;
mod umip;
mod uprobe;
mod user_dispatch;
mod vdso;
