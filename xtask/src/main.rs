//! The host tool behind `./x`.
//!
//! | you want to change … | look in … |
//! | --- | --- |
//! | what must be installed, and how it gets there | [`setup`], [`toolchain`], [`msrv`] |
//! | how the kernel is built | [`kernel`] |
//! | what the guest finds in its file system | [`initramfs`], [`program`], [`packages`] |
//! | QEMU's command line, the guest's consoles, its exit status | [`qemu`], [`console`] |
//! | Bochs, its firmware; which emulator runs | [`bochs`], [`emulator`] |
//! | `./x emulator` | [`mod@probe`] |
//! | how packages of another Debian are had | [`suite`] |
//! | `./x run` | [`run`] |
//! | `./x example` | [`example`] |
//! | `./x image` | [`image`] |
//! | `./x trace` | [`mod@trace`] |
//! | `./x test`, its suites, ablation | [`mod@test`] |
//! | `./x fmt`, `lint`, `doc`; the layers of the code | [`lint`], [`imports`] |
//! | the book, the links of all pages | [`book`] |
//! | `./x bench` | [`mod@bench`] |
//! | `./x linux` | [`linux`] |
//! | `./x fuzz` | [`fuzz`] |
//! | `./x conformance` | [`mod@conformance`], [`selftests`] |

mod bench;
mod bochs;
mod book;
mod carried;
mod conformance;
mod console;
mod emulator;
mod example;
mod fuzz;
mod image;
mod imports;
mod initramfs;
mod kernel;
mod lint;
mod linux;
mod msrv;
mod packages;
mod probe;
mod program;
mod progress;
mod prove;
mod qemu;
mod run;
mod selftests;
mod setup;
mod suite;
mod system_calls;
mod test;
mod toolchain;
mod trace;
mod tutorial;
#[cfg(test)]
mod workflows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "./x", bin_name = "./x", override_help = HELP)]
struct Cli {
    #[command(flatten)]
    emulators: emulator::Programs,
    #[command(subcommand)]
    command: Command,
}

/// What `./x help` prints; the script `x` does so without building this program.
const HELP: &str = include_str!("../help.txt");

#[derive(Subcommand)]
enum Command {
    /// Boot the reference kernel in QEMU: a shell, or one program of this machine
    Run(run::RunArgs),
    /// Make a disc image of the reference kernel that a PC boots, by BIOS or UEFI
    Image(image::ImageArgs),
    /// Show every crossing between a program and the reference kernel, as a timeline
    Trace(trace::TraceArgs),
    /// Run the tests: library, lints, guest programs, real programs, this command itself
    Test(test::TestArgs),
    /// Count the instructions of each crossing, beside Debian's stock kernel
    Bench(bench::BenchArgs),
    /// Linux with Portcullis as its gate: build, boot
    Linux(linux::LinuxArgs),
    /// Run Linux's own tests of the boundary in our kernel and in Linux, and compare
    Conformance(conformance::ConformanceArgs),
    /// Prove the machine code of the doors, for all register values
    Prove(prove::ProveArgs),
    /// Fuzz the kernel's code that takes bytes of programs
    Fuzz(fuzz::FuzzArgs),
    /// Ask an emulator what it shows of a processor
    Emulator(probe::EmulatorArgs),
    /// Boot a kernel of examples/ in QEMU
    Example(example::ExampleArgs),
    /// Format all code
    Fmt(lint::FmtArgs),
    /// Check formatting, and clippy with warnings as errors
    Lint,
    /// Build the documentation, with warnings as errors
    Doc(lint::DocArgs),
}

fn main() -> ExitCode {
    let Cli { emulators, command } = Cli::parse();
    let result = emulator::choose(emulators).and_then(|()| run_command(command));
    result.unwrap_or_else(|error| {
        eprintln!("x: {error:#}");
        ExitCode::from(run::EXIT_HOST_FAILURE)
    })
}

fn run_command(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Image(args) => image::image(&args).map(|()| ExitCode::SUCCESS),
        Command::Trace(args) => trace::trace(args),
        Command::Test(args) => test::test(args),
        Command::Bench(args) => bench::bench(args).map(|()| ExitCode::SUCCESS),
        Command::Linux(args) => linux::linux(args),
        Command::Conformance(args) => conformance::conformance(args),
        Command::Emulator(args) => probe::run(args),
        Command::Prove(args) => prove::prove(args),
        Command::Fuzz(args) => fuzz::fuzz(args),
        Command::Example(args) => example::run(args),
        Command::Fmt(args) => lint::fmt(args),
        Command::Lint => lint::lint(),
        Command::Doc(args) => lint::doc(args),
    }
}

/// The variable in which `x` says where the checkout is. Nothing of that is compiled in: a copy of a checkout works on itself.
const ROOT_VARIABLE: &str = "PORTCULLIS_ROOT";

/// Whether a file is there and younger than all its sources, which are there.
fn is_current(built: &Path, sources: &[PathBuf]) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    modified(built).is_ok_and(|built| sources.iter().all(|source| modified(source).is_ok_and(|source| built > source)))
}

/// A path inside the repository, whatever the current directory is.
///
/// # Panics
///
/// When neither `./x` nor cargo started the tool.
fn repository(path: impl AsRef<Path>) -> PathBuf {
    let root = std::env::var_os(ROOT_VARIABLE).map(PathBuf::from);
    // `cargo test` and `cargo run` name the package's folder.
    let package = || {
        let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
        Some(folder.parent()?.to_owned())
    };
    root.or_else(package).expect("started by ./x, which sets PORTCULLIS_ROOT, or by cargo").join(path)
}

/// All Rust files below a folder of the repository.
fn sources(folder: &str) -> Result<Vec<PathBuf>> {
    let mut folders = vec![repository(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_text_has_each_command() {
        let cli = Cli::command();
        let listed: Vec<String> = HELP
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.starts_with("help "))
            .collect();
        let commands: Vec<String> = cli
            .get_subcommands()
            .map(|command| format!("{} {}", command.get_name(), command.get_about().unwrap_or_default()))
            .collect();
        assert_eq!(listed, commands);
    }

    /// Neither cargo nor a compiler is needed for it.
    #[test]
    fn the_script_prints_the_help_text_without_building() {
        for arguments in [&["help"][..], &["--help"], &["-h"]] {
            let output = std::process::Command::new(repository("x"))
                .args(arguments)
                .env("PATH", "/usr/bin:/bin")
                .env("CARGO_TARGET_DIR", "/nowhere")
                .output()
                .unwrap();
            assert!(output.status.success());
            assert_eq!(String::from_utf8_lossy(&output.stdout), HELP);
        }
    }

    /// A copy of a checkout works on itself: the script hands over to the copy's tool and names the copy, and the tool has no
    /// path compiled in.
    #[test]
    fn a_copy_of_a_checkout_works_on_the_copy() {
        use std::os::unix::fs::PermissionsExt;

        let scratch = tempfile::tempdir().unwrap();
        let copy = scratch.path().join("copy");
        let file = |path: PathBuf, text: &str, mode| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for name in ["x", "Cargo.toml"] {
            std::fs::create_dir_all(&copy).unwrap();
            std::fs::copy(repository(name), copy.join(name)).unwrap();
        }
        for name in ["cargo", "cc", "rustc"] {
            let program = format!("#!/bin/sh\necho 'rustc {}.0'\n", msrv::MSRV);
            file(scratch.path().join("bin").join(name), &program, 0o755);
        }
        let tool = "#!/bin/sh\necho \"$PORTCULLIS_ROOT $*\"\n";
        file(copy.join("target/debug/xtask"), tool, 0o755);
        let output = std::process::Command::new(copy.join("x"))
            .args(["run", "--", "program"])
            .current_dir("/")
            .env("PATH", format!("{}/bin:/usr/bin:/bin", scratch.path().display()))
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTC")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, format!("{} run -- program\n", copy.display()), "{output:?}");

        let compiled_in = concat!("env!(", "\"CARGO_MANIFEST_DIR\")");
        for path in sources("xtask/src").unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains(compiled_in), "{}", path.display());
        }
    }
}
