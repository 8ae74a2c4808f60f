//! The reference kernel of Portcullis.
//!
//! It exists so that the hooks of the library have true consumers (docs/hooks.md says which have none) and programs that
//! nobody here wrote walk its doors. `gate/` is where the kernel meets the library; start there.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod calls;
mod errno;
mod fs;
mod gate;
mod life;
mod machine;
mod memory;
mod ptrace;
mod sched;
mod signal;
mod task;
mod vfs;
mod work;
