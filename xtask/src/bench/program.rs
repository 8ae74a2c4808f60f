//! Building `bench/crossing.c`, and the initramfs that both kernels boot it from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::command;

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
pub fn compile(root: &Path, directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let program = directory.join("crossing");
    command::run(
        Command::new("cc")
            .args([
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
            .arg(root.join("bench/crossing.c")),
    )
    .context("compiling bench/crossing.c; it needs a C compiler: apt-get install gcc")?;
    Ok(program)
}

/// One file of an initramfs.
pub struct File<'a> {
    /// Path inside of the archive, without a leading slash.
    pub path: &'a str,
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// Contents; the target for a symbolic link.
    pub data: &'a [u8],
}

/// A cpio archive in the `newc` format (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).
pub fn archive(files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    let end = File {
        path: "TRAILER!!!",
        mode: 0,
        data: &[],
    };
    for (index, file) in files.iter().chain([&end]).enumerate() {
        let (inode, links, name_len) = (index + 1, 1, file.path.len() + 1);
        out.extend_from_slice(b"070701");
        let fields = [
            inode,
            file.mode as usize,
            0,
            0,
            links,
            0,
            file.data.len(),
            0,
            0,
            0,
            0,
            name_len,
            0,
        ];
        for field in fields {
            out.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        out.extend_from_slice(file.path.as_bytes());
        out.push(0);
        pad(&mut out);
        out.extend_from_slice(file.data);
        pad(&mut out);
    }
    out
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The archive for one boot: the program as `/init`, its arguments, and the module for stock Linux where there is one.
pub fn initramfs(program: &[u8], arguments: &[&str], nmi_claim: Option<&[u8]>) -> Vec<u8> {
    let argv: Vec<u8> = ["/init"]
        .iter()
        .chain(arguments)
        .flat_map(|word| word.bytes().chain([0]))
        .collect();
    let mut files = vec![
        File {
            path: "init",
            mode: 0o100755,
            data: program,
        },
        File {
            path: ".portcullis",
            mode: 0o040755,
            data: &[],
        },
        File {
            path: ".portcullis/argv",
            mode: 0o100644,
            data: &argv,
        },
    ];
    if let Some(data) = nmi_claim {
        files.push(File {
            path: "nmi_claim.ko",
            mode: 0o100644,
            data,
        });
    }
    archive(&files)
}
