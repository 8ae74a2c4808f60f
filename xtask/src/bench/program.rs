//! Building `bench/crossing.c` and its 32-bit twin, and the initramfs that both kernels boot them from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::initramfs::Initramfs;
use crate::{progress, repository, setup};

/// What the program measures, in the order it measures it: its name there, and the words for a reader.
pub const ROWS: [(&str, &str); 16] = [
    ("getppid", "null system call (getppid)"),
    ("unknown-syscall", "unknown system call"),
    ("floor", "floor: GS, stack, and back"),
    ("int80", "INT 0x80 getppid"),
    ("vdso32", "getppid by the 32-bit vDSO"),
    ("seccomp", "getppid under a seccomp filter"),
    ("ud-signal", "#UD signal round trip"),
    ("fault-signal", "page-fault signal round trip"),
    ("single-step", "single-step signal round trip"),
    ("minor-fault-read", "minor page fault, read"),
    ("minor-fault-write", "minor page fault, write"),
    ("kernel-fault", "page fault in the kernel (EFAULT)"),
    ("yield-switch", "sched_yield, per switch"),
    ("ptrace-syscall", "ptrace system-call stop"),
    ("timer-user", "timer interrupt in user mode"),
    ("nmi-user", "NMI in user mode"),
];

/// The measuring programs.
pub struct Programs {
    /// `bench/crossing.c`.
    pub crossing: PathBuf,
    /// `bench/crossing32.c`, which the former runs for one row, and which is all that a 32-bit kernel runs.
    pub crossing32: PathBuf,
}

/// Compiles the programs into `directory`. No libc: nothing runs between the loops and what they measure.
pub fn compile(directory: &Path) -> Result<Programs> {
    setup::ensure(&[setup::GCC, setup::GCC_32])?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let compile = |name: &str, width: &str| {
        let program = directory.join(name);
        let mut gcc = Command::new("gcc");
        gcc.args([
            width,
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-static",
            "-nostdlib",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fno-pie",
            "-no-pie",
            "-mno-sse",
            "-mno-red-zone",
            "-o",
        ])
        .arg(&program)
        .arg(repository("bench").join(name).with_extension("c"));
        progress::step(&format!("compiling bench/{name}.c"), &mut gcc, progress::LONG)?;
        anyhow::Ok(program)
    };
    Ok(Programs { crossing: compile("crossing", "-m64")?, crossing32: compile("crossing32", "-m32")? })
}

/// The archive for one boot: the program as `/init`, its arguments, and the module for stock Linux where there is one.
pub fn initramfs(programs: &Programs, arguments: &[&str], nmi_claim: Option<&Path>) -> Result<Initramfs> {
    let mut root = Initramfs::default();
    root.copy("init", &programs.crossing)?;
    root.copy("crossing32", &programs.crossing32)?;
    root.argv(&[&["/init"], arguments].concat());
    if let Some(module) = nmi_claim {
        root.copy("nmi_claim.ko", module)?;
    }
    Ok(root)
}
