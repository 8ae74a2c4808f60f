//! The host tool behind `./x`.
//!
//! | you want to change … | look in … |
//! | --- | --- |
//! | what must be installed, and how it gets there | [`setup`], [`toolchain`], [`msrv`] |
//! | how the kernel is built | [`kernel`] |
//! | what the guest finds in its file system | [`initramfs`], [`program`] |
//! | QEMU's command line, the guest's consoles, its exit status | [`qemu`], [`console`] |
//! | `./x run` | [`run`] |
//! | `./x trace` | [`mod@trace`] |
//! | `./x test`, its suites, ablation | [`mod@test`] |
//! | `./x fmt`, `lint`, `doc` | [`lint`] |
//! | `./x bench` | [`mod@bench`] |
//! | `./x linux` | [`linux`] |
//! | `./x conformance` | [`mod@conformance`], [`selftests`] |

mod bench;
mod conformance;
mod console;
mod gdb;
mod initramfs;
mod kernel;
mod lint;
mod linux;
mod msrv;
mod program;
mod progress;
mod qemu;
mod run;
mod selftests;
mod setup;
mod test;
mod toolchain;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Portcullis: the gate between user mode and an x86-64 kernel, and a kernel that proves it.
///
/// Start with `./x run`: it installs what is missing, builds the reference kernel, and boots it in QEMU to a busybox
/// shell in this terminal. Ctrl-A X leaves QEMU.
#[derive(Parser)]
#[command(name = "./x", bin_name = "./x", disable_help_subcommand = false, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ./x run                                    an interactive shell in the reference kernel
  ./x run -- /bin/busybox echo hello         one static program of this machine, its output and its exit code
  echo 'uname -a; exit 3' | ./x run          commands from standard input
  ./x run --smp 2 --cpu EPYC --verbose       two CPUs of an AMD model, the kernel's log on standard error
  ./x run --gdb                              waits for gdb and says how to attach it
  ./x trace -- /bin/busybox ls               every crossing of a program, as a timeline
  ./x test                                   everything that can be checked
  ./x test --list                            what that is
  ./x test --only guest                      one suite of it
  ./x test --program ldt --machine amd-2     one guest program on one machine

`./x help COMMAND` says more about each. PORTCULLIS_TOOLCHAIN=rustup or =debian chooses the compiler of the kernel;
without it, rustup's is taken where the target x86_64-unknown-none can be had, else Debian's rustc-web.";

#[derive(Subcommand)]
enum Command {
    /// Boot the reference kernel in QEMU: a shell, or one program of this machine
    Run(run::RunArgs),
    /// Show every crossing between a program and the reference kernel, as a timeline
    Trace(trace::TraceArgs),
    /// Run the tests: library, lints, guest programs, real programs, this command itself
    Test(test::TestArgs),
    /// Count the instructions of each crossing, beside Debian's stock kernel
    Bench(bench::BenchArgs),
    /// Linux 6.1 with Portcullis as its gate: build, boot
    Linux(linux::LinuxArgs),
    /// Run Linux's own tests of the boundary in our kernel and in Linux, and compare
    Conformance(conformance::ConformanceArgs),
    /// Format all code
    Fmt(lint::FmtArgs),
    /// Check formatting, and clippy with warnings as errors
    Lint,
    /// Build the documentation, with warnings as errors
    Doc(lint::DocArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Trace(args) => trace::trace(args),
        Command::Test(args) => test::test(args),
        Command::Bench(args) => bench::bench(args).map(|()| ExitCode::SUCCESS),
        Command::Linux(args) => linux::linux(args),
        Command::Conformance(args) => conformance::conformance(args),
        Command::Fmt(args) => lint::fmt(args),
        Command::Lint => lint::lint(),
        Command::Doc(args) => lint::doc(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("x: {error:#}");
        ExitCode::from(run::EXIT_HOST_FAILURE)
    })
}

/// The variable in which `x` says where the checkout is. Nothing of that is compiled in: a copy of a checkout works on itself.
const ROOT_VARIABLE: &str = "PORTCULLIS_ROOT";

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
    root.or_else(package)
        .expect("started by ./x, which sets PORTCULLIS_ROOT, or by cargo")
        .join(path)
}
