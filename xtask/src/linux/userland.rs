//! What Linux boots to: `linux/guest/init.c` as the first program, and busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::config::Arch;
use super::debian;
use super::source::cache;
use crate::initramfs::Initramfs;
use crate::{is_current, progress, repository, setup};

/// The first program of `./x linux run`.
fn init(arch: Arch) -> Result<PathBuf> {
    compile(&repository("linux/guest/init.c"), arch)
}

/// What a native 32-bit Linux needs in place of 64-bit programs to run selftests.
pub fn replacements(arch: Arch) -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(match arch {
        Arch::X86_64 => Vec::new(),
        Arch::I386 => {
            vec![("tests/runner", compile(&repository("tests/guest/runner.c"), arch)?), ("bin/busybox", busybox_32()?)]
        }
    })
}

/// Compiles a program for a width, unless that was done since it changed, and gives its path.
pub fn compile(source: &Path, arch: Arch) -> Result<PathBuf> {
    let name = source.file_stem().unwrap_or_default().display();
    let program = cache().join(format!("{name}-{arch}"));
    if is_current(&program, &[source.to_owned()]) {
        return Ok(program);
    }
    fs::create_dir_all(cache())?;
    setup::ensure(&[setup::GCC])?;
    let mut gcc = Command::new("gcc");
    if arch == Arch::I386 {
        setup::ensure(&[setup::GCC_32])?;
        gcc.arg("-m32");
    }
    gcc.args(["-O2", "-Wall", "-Wextra", "-Wno-unused-result", "-D_GNU_SOURCE", "-static", "-o"])
        .arg(&program)
        .arg(source);
    progress::step(&format!("compiling {name}.c for {arch}"), &mut gcc, progress::LONG)?;
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

/// The archive of a boot whose root is the disk of [`mod@debian`], where the first program runs `argv`.
pub fn debian(argv: &[String], env: &[String], stdin: &str) -> Result<Initramfs> {
    let mut root = Initramfs::default();
    root.copy("init", &init(Arch::X86_64)?)?;
    root.argv(argv).env(env).file(".portcullis/stdin", 0o644, stdin).file(".portcullis/disk", 0o644, debian::DEVICE);
    Ok(root)
}

/// Debian's busybox for i386, unpacked in the cache: it is not for this machine's architecture, and not installed.
pub fn busybox_32() -> Result<PathBuf> {
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
        apt.args(["-o", "APT::Architecture=i386", "-o", "APT::Architectures=i386", "-o", &lists])
            .args(["-o", "APT::Sandbox::User=root"])
            .args(arguments)
            .current_dir(&directory);
        apt
    };
    // One list of several that fails is none of this package's, perhaps: fetching it tells.
    if let Err(error) = setup::apt_step("reading the lists of i386 packages", || apt(&["update"])) {
        eprintln!("x: {error:#}");
    }
    setup::apt_step("fetching busybox-static for i386", || apt(&["download", "busybox-static"]))?;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            progress::step("unpacking it", Command::new("dpkg").arg("-x").arg(&path).arg(&directory), progress::LONG)?;
            fs::remove_file(path)?;
        }
    }
    Ok(busybox)
}
