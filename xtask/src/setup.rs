//! What must be installed beside Rust, and how it gets there.
//!
//! Everything is a Debian package. As root on Debian it is installed, without a question; elsewhere the exact commands
//! are printed and the run ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Result, bail};

use crate::progress;

/// One thing that must be there.
pub struct Need {
    /// What it is, for the reader.
    pub what: &'static str,
    /// The packages of Debian that bring it.
    pub packages: &'static [&'static str],
    /// Whether it is there.
    pub found: fn() -> bool,
}

/// QEMU.
pub const QEMU: Need = Need {
    what: "QEMU",
    packages: &["qemu-system-x86"],
    found: || in_path("qemu-system-x86_64"),
};

/// The busybox that is the guest's user land.
pub const BUSYBOX: Need = Need {
    what: "a static busybox",
    packages: &["busybox-static"],
    found: || busybox().is_some(),
};

/// The linker of the kernel.
pub const LINKER: Need = Need {
    what: "GNU ld",
    packages: &["binutils"],
    found: || in_path("ld"),
};

/// Compiles the guest tests.
pub const GCC: Need = Need {
    what: "gcc and the static C library",
    packages: &["gcc", "libc6-dev"],
    found: || in_path("gcc") && Path::new("/usr/lib/x86_64-linux-gnu/libc.a").exists(),
};

/// Compiles 32-bit guest tests.
pub const GCC_32: Need = Need {
    what: "gcc and the static C library for 32-bit programs",
    packages: &["gcc-multilib"],
    found: || in_path("gcc") && Path::new("/usr/lib32/libc.a").exists(),
};

/// Compiles test programs against musl.
pub const MUSL: Need = Need {
    what: "musl",
    packages: &["musl-tools"],
    found: || in_path("musl-gcc"),
};

/// Makes sure that cargo has the subcommand that rustup's `component` brings; rustup's minimal profile leaves some out.
pub fn ensure_component(component: &str, subcommand: &str) -> Result<()> {
    if succeeds(Command::new("cargo").args([subcommand, "--version"])) {
        return Ok(());
    }
    let by_hand = format!("rustup component add {component}");
    if !in_path("rustup") {
        bail!("`cargo {subcommand}` is missing; install {component}. With rustup: {by_hand}");
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", component]);
    progress::step(&format!("installing {component} ({by_hand})"), &mut rustup, None)
}

/// Makes sure that all of `needs` is there.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.found)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing
        .iter()
        .map(|need| need.what)
        .collect::<Vec<_>>()
        .join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    install_packages(&what, &packages)?;
    match missing.iter().find(|need| !(need.found)()) {
        None => Ok(()),
        Some(need) => bail!(
            "{} is still not found after {} was installed; see what `dpkg -L {}` says",
            need.what,
            need.packages.join(" "),
            need.packages[0]
        ),
    }
}

/// Installs Debian packages, or says how to.
pub fn install_packages(what: &str, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let by_hand = format!("  apt-get update\n  apt-get install -y --no-install-recommends {names}");
    if !rustix::process::geteuid().is_root() || !in_path("apt-get") {
        let how = if in_path("apt-get") {
            "As root (or with sudo in front of each)".to_owned()
        } else {
            "This system has no apt-get; install what corresponds to these packages of Debian 12".to_owned()
        };
        bail!("missing: {what}. {how}:\n{by_hand}\nThen run this again.");
    }
    let retry = |error: anyhow::Error| {
        error.context(format!(
            "{what} could not be installed. Look at the network and at apt's sources, then:\n{by_hand}\n"
        ))
    };
    static LISTS_ARE_FRESH: AtomicBool = AtomicBool::new(false);
    if !LISTS_ARE_FRESH.load(Relaxed) {
        let title = "reading the package lists (apt-get update)";
        progress::step(title, apt().arg("update"), None).map_err(retry)?;
        LISTS_ARE_FRESH.store(true, Relaxed);
    }
    progress::step(
        &format!("installing {what} ({names})"),
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
        None,
    )
    .map_err(retry)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]);
    command
}

/// Whether `program` is in PATH.
pub fn in_path(program: &str) -> bool {
    crate::program::which(program).is_some()
}

/// Runs `command` for its exit status alone.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The host's static busybox.
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| {
            path.exists() && crate::program::interpreter(path).is_ok_and(|interpreter| interpreter.is_none())
        })
}
