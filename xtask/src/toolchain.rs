//! Which compiler builds the kernel. The one place that decides it.
//!
//! The kernel's target, `x86_64-unknown-none`, is a component of rustup's toolchains. Where that cannot be had (no
//! network to rustup's servers, a read-only toolchain), Debian's `rustc-web` with its library source builds `core` and
//! `alloc` itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{msrv, progress, setup};

/// The kernel's target.
pub const TARGET: &str = "x86_64-unknown-none";

/// Where the kernel's tests of plain logic run. `kernel/.cargo/config.toml` names the kernel's target otherwise.
pub const HOST: &str = "x86_64-unknown-linux-gnu";

/// Chooses the toolchain by hand: `rustup` or `debian`.
const CHOICE: &str = "PORTCULLIS_TOOLCHAIN";

/// How long rustup may take to fetch the target (about 20 MB) before Debian's packages are tried.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// The packages of Debian that make a toolchain for the kernel.
pub const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "binutils"];

/// A compiler for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup's, with the bare-metal target installed.
    Rustup,
    /// Debian's `rustc-web`: it has no bare-metal target, but the library's source.
    Debian,
}

impl Toolchain {
    /// The toolchain that is installed, if one is.
    pub fn installed() -> Option<Toolchain> {
        match std::env::var(CHOICE).as_deref() {
            Ok("rustup") => rustup_has_target().then_some(Toolchain::Rustup),
            Ok("debian") => debian_is_complete().then_some(Toolchain::Debian),
            _ if rustup_has_target() => Some(Toolchain::Rustup),
            _ => debian_is_complete().then_some(Toolchain::Debian),
        }
    }

    /// The toolchain, installed where none was.
    pub fn install() -> Result<Toolchain> {
        if let Some(toolchain) = Toolchain::installed() {
            return Ok(toolchain);
        }
        let choice = std::env::var(CHOICE).unwrap_or_default();
        if choice != "debian" && setup::in_path("rustup") {
            match ensure_target(TARGET) {
                Ok(()) => return Ok(Toolchain::Rustup),
                Err(error) => eprintln!("x: {error:#}"),
            }
            if choice != "rustup" {
                eprintln!("x: rustup could not provide the target; trying Debian's rustc-web instead");
            }
        }
        if choice != "rustup" {
            setup::install_packages("a compiler for the kernel", DEBIAN_PACKAGES)?;
        }
        match Toolchain::installed() {
            Some(toolchain) => Ok(toolchain),
            None => bail!(
                "there is no compiler for the kernel: neither has the `rustc` in PATH the target {TARGET} (install it: \
                 rustup target add {TARGET}), nor is /usr/bin/rustc a Debian rustc-web {} or newer with rust-web-src \
                 (install them: apt-get install -y {})",
                msrv::MSRV,
                DEBIAN_PACKAGES.join(" ")
            ),
        }
    }

    /// A cargo command line that builds for the kernel's target: `cargo SUBCOMMAND …`, to be run in `kernel/`, or in an example.
    pub fn cargo(self, subcommand: &str) -> Command {
        let mut command = self.bare_cargo(subcommand);
        if self == Toolchain::Debian {
            command.args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
        }
        // Unstable flags of cargo: `build-std` with Debian's, and flags per package (see `kernel`). Set
        // always, so that a build is not repeated because another one needed it.
        command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }

    /// A cargo command line that builds the kernel's tests for the host: `cargo SUBCOMMAND …`, to be run in `kernel/`.
    pub fn host_cargo(self, subcommand: &str) -> Command {
        let mut command = self.bare_cargo(subcommand);
        command.args(["--target", HOST]);
        command
    }

    fn bare_cargo(self, subcommand: &str) -> Command {
        let mut command;
        match self {
            Toolchain::Rustup => {
                command = Command::new("cargo");
                command.arg(subcommand);
            }
            Toolchain::Debian => {
                // rustup's `cargo-clippy` comes first in PATH and would bring its own compiler.
                let (program, arguments) = match subcommand {
                    "clippy" => ("/usr/bin/cargo-clippy", "clippy"),
                    _ => ("/usr/bin/cargo", subcommand),
                };
                command = Command::new(program);
                command.arg(arguments).env("CARGO", "/usr/bin/cargo");
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
            }
        }
        command
    }

    /// Makes sure that the toolchain has clippy.
    pub fn ensure_clippy(self) -> Result<()> {
        match self {
            Toolchain::Rustup => setup::ensure_component("clippy", "clippy"),
            Toolchain::Debian if Path::new("/usr/bin/cargo-clippy").exists() => Ok(()),
            Toolchain::Debian => setup::install_packages("clippy for the kernel", &["rust-web-clippy"]),
        }
    }
}

/// A rustc with the source of `core` beside it, for who compiles `core` for a target of their own: Debian's, or rustup's with
/// the component `rust-src`.
pub fn with_core_source() -> Result<PathBuf> {
    if debian_is_complete() {
        return Ok("/usr/bin/rustc".into());
    }
    let with_source = || {
        let output = progress::output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        core.exists().then(|| sysroot.join("bin/rustc"))
    };
    if let Some(rustc) = with_source() {
        return Ok(rustc);
    }
    if setup::in_path("rustup") {
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rust-src"]);
        let title = "installing the source of Rust's library (rustup component add rust-src)";
        match progress::step(title, &mut rustup, RUSTUP_LIMIT) {
            Ok(()) if with_source().is_some() => return with_source().context("it was there just now"),
            Ok(()) => {}
            Err(error) => eprintln!("x: {error:#}"),
        }
    }
    setup::install_packages("a compiler for Linux's boundary", DEBIAN_PACKAGES)?;
    match debian_is_complete() {
        true => Ok("/usr/bin/rustc".into()),
        false => bail!("no rustc has the source of `core`: rustup component add rust-src"),
    }
}

/// Makes sure that the `rustc` in PATH has the library for a target.
pub fn ensure_target(target: &str) -> Result<()> {
    if !has_target(target) && setup::in_path("rustup") {
        let mut rustup = Command::new("rustup");
        rustup.args(["target", "add", target]);
        let title = format!("installing the Rust target {target} (rustup target add {target})");
        progress::step(&title, &mut rustup, RUSTUP_LIMIT)?;
    }
    match has_target(target) {
        true => Ok(()),
        false => bail!("rustc has no target {target} here (rustup target add {target})"),
    }
}

fn rustup_has_target() -> bool {
    has_target(TARGET)
}

/// Whether the `rustc` in PATH has the library for a target.
pub fn has_target(target: &str) -> bool {
    let output = progress::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

fn debian_is_complete() -> bool {
    let recent = progress::output(Command::new("/usr/bin/rustc").arg("--version"))
        .is_ok_and(|output| msrv::is_recent_enough(&String::from_utf8_lossy(&output.stdout)));
    recent
        && Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/core/Cargo.toml").exists()
        && setup::in_path("ld")
}
