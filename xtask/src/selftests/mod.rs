//! Linux's own tests of the boundary (tools/testing/selftests): fetched, built, run in one kernel image, judged.
//!
//! | you want to change … | look in … |
//! | --- | --- |
//! | which suites there are, which programs, in which modes | [`suites`] |
//! | where the source comes from, how the programs are compiled | [`mod@build`] |
//! | how a kernel is booted with them, what happens when it dies | [`boot`] |
//! | what one test came to, and which of its lines count | [`outcome`] |
//! | when two outcomes are equal, and which differences are known | [`compare`] |
//!
//! The same initramfs, with `tests/guest/runner.c` as the first program, serves the reference kernel and any Linux.

pub mod boot;
pub mod build;
pub mod compare;
pub mod outcome;
pub mod suites;

pub use boot::{Image, run};
pub use build::build;
pub use outcome::Outcome;
pub use suites::Test;
