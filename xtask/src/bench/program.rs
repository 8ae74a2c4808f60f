//! Building `bench/crossing.c`, and the initramfs that both kernels boot it from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::initramfs::Initramfs;
use crate::{progress, repository};

/// What the program measures, in the order it measures it: its name there, and the words for a reader.
pub const ROWS: [(&str, &str); 10] = [
    ("getppid", "null system call (getppid)"),
    ("unknown-syscall", "unknown system call"),
    ("floor", "floor: GS, stack, and back"),
    ("ud-signal", "#UD signal round trip"),
    ("fault-signal", "page-fault signal round trip"),
    ("minor-fault-read", "minor page fault, read"),
    ("minor-fault-write", "minor page fault, write"),
    ("yield-switch", "sched_yield, per switch"),
    ("timer-user", "timer interrupt in user mode"),
    ("nmi-user", "NMI in user mode"),
];

/// Compiles the program into `directory`. No libc: nothing runs between the loops and what they measure.
pub fn compile(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let program = directory.join("crossing");
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-static",
        "-nostdlib",
        "-ffreestanding",
    ])
    .args(["-fno-stack-protector", "-fno-pie", "-no-pie", "-mno-sse", "-o"])
    .arg(&program)
    .arg(repository("bench/crossing.c"));
    progress::step("compiling bench/crossing.c", &mut gcc, None)?;
    Ok(program)
}

/// The archive for one boot: the program as `/init`, its arguments, and the module for stock Linux where there is one.
pub fn initramfs(program: &Path, arguments: &[&str], nmi_claim: Option<&Path>) -> Result<Initramfs> {
    let mut root = Initramfs::default();
    root.copy("init", program)?;
    root.argv(&[&["/init"], arguments].concat());
    if let Some(module) = nmi_claim {
        root.copy("nmi_claim.ko", module)?;
    }
    Ok(root)
}
