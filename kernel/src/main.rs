//! The reference kernel of Portcullis.
//!
//! It exists so that the hooks of the library have true consumers (docs/hooks.md says which have none) and programs that
//! nobody here wrote walk its doors. `gate/` is where the kernel meets the library; start there.
//!
//! Its plain data logic has tests beside it, which run on the host: `host.rs`, ARCHITECTURE.md.
#![cfg_attr(not(any(test, fuzzing)), no_std, no_main)]
// What leads to most of the code is `boot`.
#![cfg_attr(any(test, fuzzing), allow(dead_code, unused_imports))]

extern crate alloc;

// The way in from the loader: addresses of the image, of which a test of the host is none.
#[cfg(not(any(test, fuzzing)))]
mod boot;
mod calls;
mod errno;
mod fs;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gate;
#[cfg(any(test, fuzzing))]
mod host;
mod life;
mod machine;
mod memory;
mod net;
mod ptrace;
mod sched;
mod signal;
mod task;
mod vfs;
mod work;
