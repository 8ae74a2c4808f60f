//! Building the reference kernel, and what its image tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, SymbolKind};

use crate::toolchain::{TARGET, Toolchain};
use crate::{progress, repository};

/// What to build.
#[derive(Default)]
pub struct Build {
    /// The copy of the repository to build, if not the repository itself.
    pub copy: Option<PathBuf>,
    /// With debug assertions, which are the library's invariants: what the tests run.
    pub checked: bool,
    /// With page-table isolation, in a target directory of its own.
    pub isolation: bool,
    /// For CPUs with FRED, in a target directory of its own.
    pub fred: bool,
    /// With the door that the benchmark's row `floor` measures, in a target directory of its own.
    pub floor: bool,
    /// Further `--cfg` flags for the library and the kernel, in a target directory of their own.
    pub cfg: Vec<String>,
}

/// Builds the kernel as it is, and gives the path of its ELF image.
pub fn build() -> Result<PathBuf> {
    Build::default().run()
}

/// Builds the kernel with debug assertions, with page-table isolation or without, and gives the path of its ELF image.
pub fn build_checked(isolation: bool) -> Result<PathBuf> {
    Build { checked: true, isolation, ..Build::default() }.run()
}

/// Builds the kernels that several suites of `./x test` run, two at once: most of each is one crate, which the compiler makes on one
/// thread.
pub fn build_for_tests() -> Result<()> {
    Toolchain::install()?;
    let checked = |isolation, fred| Build { checked: true, isolation, fred, ..Build::default() };
    let pairs = [[checked(false, false), Build::default()], [checked(true, false), checked(false, true)]];
    thread::scope(|scope| {
        let builds =
            pairs.each_ref().map(|pair| scope.spawn(|| pair.iter().try_for_each(|build| build.run().map(drop))));
        builds.into_iter().try_for_each(|build| build.join().expect("a build does not panic"))
    })
}

impl Build {
    /// Builds, with cargo's progress on standard error, and gives the path of the ELF image.
    pub fn run(&self) -> Result<PathBuf> {
        let toolchain = Toolchain::install()?;
        let directory = match &self.copy {
            Some(copy) => copy.join("kernel"),
            None => repository("kernel"),
        };
        let target = directory.join(match self {
            Build { cfg, .. } if !cfg.is_empty() => "target/cfg",
            Build { floor: true, .. } => "target/floor",
            Build { isolation: true, .. } => "target/isolation",
            Build { fred: true, .. } => "target/fred",
            _ => "target",
        });
        let mut cargo = toolchain.cargo("build");
        let profile = if self.checked { "checked" } else { "release" };
        cargo.args(["--profile", profile, "--target-dir"]).arg(&target);
        cargo.args(package_cfg(profile, &["portcullis-gate", "portcullis-kernel"], &self.cfg));
        for (wanted, feature) in [(self.isolation, "isolation"), (self.fred, "fred"), (self.floor, "bench-floor")] {
            if wanted {
                cargo.args(["--features", feature]);
            }
        }
        cargo.current_dir(&directory).stdin(Stdio::null()).stdout(std::io::stderr());
        let shown = format!("{cargo:?}");
        let status = progress::status(&mut cargo, "cargo to build the kernel", progress::BUILD)?;
        if !status.success() {
            bail!(
                "the kernel could not be built ({status}). The errors stand above; tried, in {}: {shown}",
                directory.display()
            );
        }
        Ok(target.join(TARGET).join(profile).join("portcullis-kernel"))
    }
}

/// Arguments for cargo that give `--cfg` flags to some packages only: with RUSTFLAGS every dependency, `core` included,
/// would be built anew for each flag.
fn package_cfg(profile: &str, packages: &[&str], flags: &[String]) -> Vec<String> {
    if flags.is_empty() {
        return Vec::new();
    }
    let flags: Vec<String> = flags.iter().map(|flag| format!("'--cfg', '{flag}'")).collect();
    let mut arguments = vec!["-Zprofile-rustflags".to_owned()];
    for package in packages {
        arguments.push("--config".to_owned());
        arguments.push(format!("profile.{profile}.package.{package}.rustflags=[{}]", flags.join(", ")));
    }
    arguments
}

/// The symbols of `kernel` for its panic backtrace: lines `address name`, sorted by address, names demangled.
pub fn symbols(kernel: &Path) -> Result<String> {
    let data = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let file: ElfFile64 =
        ElfFile64::parse(&*data).with_context(|| format!("{} is no 64-bit ELF file", kernel.display()))?;
    let mut symbols: Vec<(u64, String)> = file
        .symbols()
        .filter(|symbol| symbol.is_definition() && matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label))
        .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
        .filter(|(_, name)| !name.is_empty() && !name.starts_with(".L"))
        .map(|(address, name)| (address, format!("{:#}", rustc_demangle::demangle(name))))
        .collect();
    symbols.sort();
    symbols.dedup_by_key(|symbol| symbol.0);
    Ok(symbols.iter().map(|(address, name)| format!("{address:x} {name}\n")).collect())
}
