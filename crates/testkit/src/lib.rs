//! Tests of the boundary between user mode and an x86-64 kernel, for any kernel: programs that it runs, and an injection
//! harness that watches its doors in QEMU. The command is `portcullis-testkit`; this is what it is made of.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know what is checked, and which bugs of the catalogue that decides | [`tiers`], [`hosted`], [`catalogue`] |
//! | build the programs | [`programs`] |
//! | boot a kernel with them | [`run`] |
//! | read a console's log | [`report`] |
//! | inject an event at each instruction of a door | [`inject`] |
//! | step, read and inject in QEMU | [`gdb`], [`qmp`], [`symbols`] |

pub mod catalogue;
pub mod gdb;
pub mod hosted;
pub mod inject;
pub mod programs;
pub mod qmp;
pub mod report;
pub mod run;
pub mod symbols;
pub mod tiers;
