//! What Linux boots to: `linux/guest/init.c` as the first program, and busybox.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::config::Arch;
use super::source::cache;
use crate::initramfs::Initramfs;
use crate::{progress, repository, setup};

/// Compiles the first program for a width, unless that was done since it changed.
fn init(arch: Arch) -> Result<PathBuf> {
    let source = repository("linux/guest/init.c");
    let program = cache().join(format!("init-{arch}"));
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified());
    if modified(&program).is_ok_and(|built| modified(&source).is_ok_and(|source| built > source)) {
        return Ok(program);
    }
    setup::ensure(&[setup::GCC])?;
    let mut gcc = Command::new("gcc");
    if arch == Arch::I386 {
        setup::ensure(&[setup::GCC_32])?;
        gcc.arg("-m32");
    }
    gcc.args([
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wno-unused-result",
        "-D_GNU_SOURCE",
        "-static",
        "-o",
    ])
    .arg(&program)
    .arg(&source);
    progress::step("compiling linux/guest/init.c", &mut gcc, None)?;
    Ok(program)
}

/// A root file system with busybox in it, whose first program runs `argv`.
pub fn busybox(arch: Arch, argv: &[String], env: &[String], stdin: &str) -> Result<Initramfs> {
    let mut root = Initramfs::busybox()?;
    if arch == Arch::I386 {
        root.copy("bin/busybox", &busybox_32()?)?;
    }
    root.copy("init", &init(arch)?)?;
    root.argv(argv).env(env).file(".portcullis/stdin", 0o644, stdin);
    Ok(root)
}

/// Debian's busybox for i386, unpacked in the cache: it is not for this machine's architecture, and not installed.
fn busybox_32() -> Result<PathBuf> {
    let directory = cache().join("busybox-i386");
    let busybox = directory.join("bin/busybox");
    if busybox.exists() {
        return Ok(busybox);
    }
    fs::create_dir_all(directory.join("lists/partial"))?;
    // Lists of its own: the machine's apt stays as it is.
    let lists = format!("Dir::State::Lists={}", directory.join("lists").display());
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args([
            "-o",
            "APT::Architecture=i386",
            "-o",
            "APT::Architectures=i386",
            "-o",
            &lists,
        ])
        .args(["-o", "APT::Sandbox::User=root"])
        .args(arguments)
        .current_dir(&directory);
        apt
    };
    progress::step("reading the lists of i386 packages", &mut apt(&["update"]), None)?;
    progress::step(
        "fetching busybox-static for i386",
        &mut apt(&["download", "busybox-static"]),
        None,
    )?;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            progress::step(
                "unpacking it",
                Command::new("dpkg").arg("-x").arg(&path).arg(&directory),
                None,
            )?;
            fs::remove_file(path)?;
        }
    }
    Ok(busybox)
}
