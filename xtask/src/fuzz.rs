//! `./x fuzz`: libFuzzer on what a program gives the kernel in many bytes. The targets are in `kernel/src/fuzz`, one program for each
//! in `fuzz/`, and the inputs that are kept in `fuzz/corpus`.
//!
//! `fuzz/` is laid out for `cargo fuzz`, too. This builds it with the flags that cargo-fuzz passes, so that nothing has to be
//! installed for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::Need;
use crate::toolchain::{HOST, Toolchain};
use crate::{progress, repository, setup};

/// Compiles libFuzzer.
const COMPILER: Need = Need { what: "a C++ compiler", packages: &["g++"], found: || setup::in_path("c++") };

/// What makes the code tell the fuzzer where it has been, as cargo-fuzz has it.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares \
                        -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// What of the kernel's own checks is in.
const CHECKS: &str = "-Cdebug-assertions -Ccodegen-units=1";

/// The longest input that libFuzzer makes up.
const MAX_LEN: usize = 4096;

/// How much longer than it is told to run a target may take: loading what it has found before.
const SLACK: Duration = Duration::from_secs(300);

/// Runs libFuzzer on the kernel's code that takes bytes of programs.
///
/// Each target begins with the inputs of `fuzz/corpus` and with what it found in earlier runs, which stays in `target/fuzz`. At the
/// end it says how many inputs it ran and how many places of the code they reached. An input at which something does not hold is
/// kept in `target/fuzz`, and named; add it to `fuzz/corpus` once what it found is mended, so that `./x test` runs it for good.
#[derive(clap::Args)]
pub struct FuzzArgs {
    /// These targets; without any, all of them
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Run this input alone
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// List the targets
    #[arg(long)]
    list: bool,
}

/// The targets: the folders of `fuzz/corpus`.
pub fn targets() -> Result<Vec<String>> {
    let folder = repository("fuzz/corpus");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    Ok(targets)
}

/// Runs the command.
pub fn fuzz(args: FuzzArgs) -> Result<ExitCode> {
    let known = targets()?;
    if args.list {
        known.iter().for_each(|target| println!("{target}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target `{unknown}`; there are {}", known.join(", "));
    }
    ensure!(args.input.is_none() || args.targets.len() == 1, "an input is one target's: name that");
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    let programs = build()?;
    let mut all_hold = true;
    for target in chosen {
        let program = programs.join(target);
        let status = match &args.input {
            Some(input) => {
                let mut command = Command::new(&program);
                progress::status(command.arg(input), target, SLACK)?
            }
            None => run(target, &program, args.seconds)?,
        };
        if !status.success() {
            println!("{target}: something did not hold, or it took too long: see above");
            all_hold = false;
        }
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the programs of all targets; gives their folder.
pub fn build() -> Result<PathBuf> {
    setup::ensure(&[COMPILER, setup::LINKER])?;
    let mut cargo = Toolchain::install()?.host_cargo("build");
    let sanitizer = if has_address_sanitizer(&cargo)? {
        "-Zsanitizer=address"
    } else {
        eprintln!("x: this compiler has no AddressSanitizer: the targets run without it");
        ""
    };
    let flags = format!("{COVERAGE} {sanitizer} {CHECKS}");
    let target = repository("target/fuzz-build");
    cargo.args(["--release", "--bins", "--target-dir"]).arg(&target).current_dir(repository("fuzz"));
    // The flag for the sanitizer is not stable.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.stdin(Stdio::null()).stdout(std::io::stderr());
    let shown = format!("{cargo:?}");
    let status = progress::status(&mut cargo, "cargo to build the fuzz targets", progress::BUILD)?;
    ensure!(status.success(), "the fuzz targets could not be built ({status}); tried {shown}");
    Ok(target.join(HOST).join("release"))
}

/// Whether the compiler that this cargo runs brings the sanitizer's library.
fn has_address_sanitizer(cargo: &Command) -> Result<bool> {
    let rustc = cargo.get_envs().find(|(name, _)| *name == "RUSTC").and_then(|(_, value)| value);
    let mut command = Command::new(rustc.unwrap_or("rustc".as_ref()));
    let output = progress::output(command.args(["--print", "target-libdir", "--target", HOST]))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let is_library = |name: &str| name.starts_with("librustc") && name.ends_with("_rt.asan.a");
    Ok(fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| is_library(&entry.file_name().to_string_lossy())))
}

/// Fuzzes one target.
pub fn run(target: &str, program: &Path, seconds: u64) -> Result<ExitStatus> {
    let found = repository("target/fuzz").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    println!("== {target}: {seconds} seconds");
    let mut prefix = repository("target/fuzz").join(format!("{target}-")).into_os_string();
    prefix = [std::ffi::OsStr::new("-artifact_prefix="), &prefix].into_iter().collect();
    let mut command = Command::new(program);
    command.arg(&found).arg(repository("fuzz/corpus").join(target)).arg(prefix);
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={MAX_LEN}"), "-timeout=30".to_owned()]);
    command.args(["-print_final_stats=1", "-verbosity=1"]);
    progress::status(&mut command, target, Duration::from_secs(seconds) + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dependencies that a manifest lists, but for libFuzzer's.
    fn dependencies(manifest: &str) -> Vec<String> {
        let text = fs::read_to_string(repository(manifest)).unwrap();
        let section = text.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
        let lines = section.lines().filter(|line| !line.is_empty() && !line.starts_with("libfuzzer-sys"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn the_kernel_has_the_same_dependencies_in_both_manifests() {
        assert_eq!(dependencies("fuzz/Cargo.toml"), dependencies("kernel/Cargo.toml"));
    }

    /// Every input is small: what is kept is what reaches something of its own, or found something.
    #[test]
    fn the_corpora_are_small() {
        for target in targets().unwrap() {
            let folder = repository("fuzz/corpus").join(&target);
            let sizes = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
            assert!(sizes.sum::<u64>() <= 16 << 10, "{target}");
        }
    }
}
