//! Fuzz targets: what a program gives the kernel in many bytes, and what must hold whatever these are.
//!
//! Each target takes bytes and panics where something does not hold. libFuzzer calls them (`fuzz/`, `./x fuzz`); the tests here
//! run the inputs that are kept in `fuzz/corpus`. They call the kernel's own code, in a process of the host (`host.rs`).

use std::sync::Once;

use crate::host::process;
use crate::memory::{Width, frames};

mod bpf;
mod cpio;
mod elf;
mod input;
mod ldt;
mod ptrace;
mod signal_frame;
mod xsave;

/// A target's name, and what runs one input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("elf", elf::run),
    ("signal_frame", signal_frame::run),
    ("xsave", xsave::run),
    ("bpf", bpf::run),
    ("ldt", ldt::run),
    ("ptrace", ptrace::run),
    ("cpio", cpio::run),
];

/// Runs one input of a target. Frames that it took are free again afterwards.
///
/// # Panics
/// If something does not hold, or there is no such target.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    static WARM: Once = Once::new();
    // The first process makes what is kept for the next.
    WARM.call_once(|| process::run(Width::Bits64, |_| ()));
    let before = frames::free_bytes();
    run(bytes);
    // Tests run beside each other.
    if cfg!(fuzzing) {
        assert_eq!(frames::free_bytes(), before, "frames that are not free again");
    }
}

#[cfg(test)]
mod tests;
