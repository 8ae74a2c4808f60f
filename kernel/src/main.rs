//! The reference kernel of Portcullis.
//!
//! It exists so that every hook of the library has a true consumer and every door can be walked by a program nobody
//! here wrote. `gate.rs` is where the kernel meets the library; start there.
#![no_std]
#![no_main]

extern crate alloc;

mod audit;
mod boot;
mod compat;
mod cpu;
mod dispatch;
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
mod vdso;
