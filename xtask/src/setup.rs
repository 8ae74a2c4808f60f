//! What must be installed beside Rust, and how it gets there.
//!
//! Everything is a Debian package. As root on Debian it is installed, without a question; elsewhere the exact commands
//! are printed and the run ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{emulator, progress};

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
pub const QEMU: Need =
    Need { what: "QEMU", packages: &["qemu-system-x86"], found: || emulator::qemu().to_str().is_none_or(in_path) };

/// The busybox that is the guest's user land.
pub const BUSYBOX: Need =
    Need { what: "a static busybox", packages: &["busybox-static"], found: || busybox().is_some() };

/// The linker of the kernel.
pub const LINKER: Need = Need { what: "GNU ld", packages: &["binutils"], found: || in_path("ld") };

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
pub const MUSL: Need = Need { what: "musl", packages: &["musl-tools"], found: || in_path("musl-gcc") };

/// Applies the patches that take out guards.
pub const GIT: Need = Need { what: "git", packages: &["git"], found: || in_path("git") };

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
    progress::step(&format!("installing {component} ({by_hand})"), &mut rustup, progress::LONG)
}

/// Makes sure that all of `needs` is there. One thread at a time: the others find what it installs.
pub fn ensure(needs: &[Need]) -> Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.found)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let installed = install_packages(&what, &packages);
    if installed.is_err() && missing.iter().any(|need| !(need.found)()) {
        return installed;
    }
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
    // Without fresh lists those that are there may do.
    if let Err(error) = update_lists() {
        eprintln!("x: {error:#}\nx: going on with the package lists that are there");
    }
    let title = format!("installing {what} ({names})");
    apt_step(&title, || {
        let mut command = apt();
        command.args(["install", "-y", "--no-install-recommends"]).args(packages);
        command
    })
    .with_context(|| {
        format!("{what} could not be installed. Look at the network and at apt's sources, then:\n{by_hand}\n")
    })
}

/// `apt-get update`, once in a run.
pub fn update_lists() -> Result<()> {
    static LISTS_ARE_FRESH: AtomicBool = AtomicBool::new(false);
    if !LISTS_ARE_FRESH.load(Relaxed) {
        apt_step("reading the package lists (apt-get update)", || {
            let mut command = apt();
            command.arg("update");
            command
        })?;
        LISTS_ARE_FRESH.store(true, Relaxed);
    }
    Ok(())
}

/// An apt-get that waits for apt's locks as far as it does so itself, and asks a mirror more than once.
pub fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Acquire::Retries=3",
    ]);
    command
}

/// Makes the step that `command` gives, again while another apt holds a lock, and a few times when a mirror fails.
pub fn apt_step(title: &str, command: impl Fn() -> Command) -> Result<()> {
    let start = Instant::now();
    let mut failures = 0;
    loop {
        let Err(error) = progress::step(title, &mut command(), APT_LIMIT) else {
            return Ok(());
        };
        let text = format!("{error:#}");
        match next_try(&text, failures, start.elapsed()) {
            Some((why, pause)) => {
                eprintln!("x: {why}; trying again in {} s", pause.as_secs());
                thread::sleep(pause);
            }
            None => return Err(error),
        }
        failures += u32::from(!is_locked(&text));
    }
}

/// How long one run of apt-get may take.
const APT_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long is waited in all for another apt to end.
const LOCK_LIMIT: Duration = Duration::from_secs(600);

/// How often apt may fail for other reasons than a lock.
const TRIES: u32 = 3;

/// Whether apt said that another holds one of its locks.
fn is_locked(error: &str) -> bool {
    ["Could not get lock", "Unable to acquire the dpkg", "Unable to lock"].iter().any(|part| error.contains(part))
}

/// Why and after which pause a failed apt-get is run again; `failures`: those before this one that were no lock's.
fn next_try(error: &str, failures: u32, waited: Duration) -> Option<(&'static str, Duration)> {
    // What another try cannot change.
    let hopeless = ["Unable to locate package", "has no installation candidate", "cannot start"];
    if hopeless.iter().any(|part| error.contains(part)) {
        None
    } else if is_locked(error) {
        (waited < LOCK_LIMIT).then_some(("another apt is at work and holds its lock", Duration::from_secs(5)))
    } else {
        let pause = Duration::from_secs(5 << (2 * failures.min(4)));
        (failures + 1 < TRIES).then_some(("apt-get failed, maybe for a mirror's sake", pause))
    }
}

/// Whether `program` is in PATH.
pub fn in_path(program: &str) -> bool {
    crate::program::which(program).is_some()
}

/// Runs `command` for its exit status alone.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let shown = format!("{command:?}");
    progress::status(command, &shown, progress::SHORT).is_ok_and(|status| status.success())
}

/// The names under which busybox is another program.
pub fn applets() -> Result<Vec<String>> {
    let busybox = busybox().context("no static busybox on this machine")?;
    let list = progress::output(Command::new(busybox).arg("--list"))?;
    Ok(String::from_utf8_lossy(&list.stdout).lines().map(str::to_owned).collect())
}

/// The host's static busybox.
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists() && crate::program::interpreter(path).is_ok_and(|interpreter| interpreter.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_waited_for_and_a_mirror_asked_again() {
        let lock = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 12 (apt-get)";
        let mirror = "E: Failed to fetch http://x/y.deb  Connection timed out";
        let unknown = "E: Unable to locate package no-such-package";
        let soon = Duration::from_secs(1);
        assert!(next_try(lock, 0, soon).is_some());
        assert!(next_try(lock, TRIES, LOCK_LIMIT / 2).is_some());
        assert!(next_try(lock, 0, LOCK_LIMIT).is_none());
        let pauses: Vec<u64> =
            (0..).map_while(|failures| next_try(mirror, failures, soon)).map(|(_, pause)| pause.as_secs()).collect();
        assert_eq!(pauses, [5, 20]);
        assert!(next_try(unknown, 0, soon).is_none());
    }
}
