//! Which emulator runs the guest: QEMU or Bochs, Debian's or one of the user's.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tempfile::TempDir;

/// What executes the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Emulator {
    /// Fast, and most of the tests'
    #[default]
    Qemu,
    /// Slower, and right about faults in ring 0 and debug exceptions where QEMU is wrong (docs/emulators.md)
    Bochs,
}

/// The user's own emulators.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Programs {
    /// This QEMU, or a script that runs one, in place of the system's
    #[arg(long, value_name = "PATH", global = true)]
    qemu: Option<PathBuf>,
    /// This Bochs (3.1 or newer), or a script that runs one, in place of Debian's
    #[arg(long, value_name = "PATH", global = true)]
    bochs: Option<PathBuf>,
}

static CHOSEN: OnceLock<Programs> = OnceLock::new();

/// Runs these from now on. At the start, once.
///
/// # Errors
///
/// When one of them is not there.
pub fn choose(programs: Programs) -> Result<()> {
    let find = |program: Option<PathBuf>| {
        let absolute = |path: PathBuf| {
            path.canonicalize()
                .and_then(|_| std::path::absolute(&path))
                .with_context(|| format!("there is no emulator {}", path.display()))
        };
        program.map(absolute).transpose()
    };
    let programs = Programs { qemu: find(programs.qemu)?, bochs: find(programs.bochs)? };
    CHOSEN.set(programs).ok().context("the emulators are chosen once")
}

/// QEMU: the user's, or the system's by its name.
pub fn qemu() -> OsString {
    chosen()
        .and_then(|programs| programs.qemu.clone())
        .map_or_else(|| "qemu-system-x86_64".into(), PathBuf::into_os_string)
}

/// The user's Bochs.
pub fn bochs() -> Option<PathBuf> {
    chosen()?.bochs.clone()
}

fn chosen() -> Option<&'static Programs> {
    CHOSEN.get()
}

/// Has an `./x` that this one starts run the same emulators.
pub fn pass_on(x: &mut Command) {
    for (option, program) in
        chosen().into_iter().flat_map(|programs| [("--qemu", &programs.qemu), ("--bochs", &programs.bochs)])
    {
        if let Some(program) = program {
            x.arg(option).arg(program);
        }
    }
}

/// An emulator that runs, and this side of the guest's ports ([`crate::qemu`] says what each is).
pub struct Started {
    /// The emulator.
    pub child: Child,
    /// The kernel's log.
    pub log: File,
    /// What the log begins after: the emulator's own words.
    pub log_start: Option<&'static [u8]>,
    /// Both directions, unless the emulator has the terminal itself.
    pub com1: Option<File>,
    /// The far end of COM1's pseudo-terminal. It is closed when the emulator has ended, which ends what is read from COM1.
    pub terminal: Option<OwnedFd>,
    /// To the guest.
    pub com2: File,
    /// From the guest.
    pub com3: Option<File>,
    /// Files that it needs while it runs.
    pub scratch: Option<TempDir>,
}
