//! `./x linux`: Linux with Portcullis as its gate, and stock beside it.
//!
//! | you want to change … | look in … |
//! | --- | --- |
//! | which versions there are, where the source comes from | [`source`] |
//! | which options are on | [`config`], `linux/config/` |
//! | how it is built | [`build`] |
//! | what it boots to | [`userland`], [`debian`], `linux/guest/init.c` |
//! | `./x linux run` | [`run`] |
//! | `./x linux bench` | [`mod@bench`] |
//! | `./x linux selftests` | [`selftests`] |
//! | `./x linux stress` | [`stress`] |

mod bench;
pub mod build;
pub mod config;
mod debian;
mod run;
pub mod selftests;
pub mod source;
pub mod stress;
pub mod userland;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use build::Variant;
use config::{Arch, Config};
pub use run::clock_khz;
use source::SourceArgs;

/// Linux (6.1, 6.12, 7.2) with Portcullis in the place of its own entry code, from Debian's source or your own.
///
/// Source and objects are kept in `.cache/linux` (about 3 GB for each version). The first build takes some minutes; the other variant is
/// then only a link in the same tree.
#[derive(clap::Args)]
pub struct LinuxArgs {
    #[command(subcommand)]
    command: LinuxCommand,
}

#[derive(Subcommand)]
enum LinuxCommand {
    /// Build it, and print the path of its bootable image
    Build(BuildArgs),
    /// Boot it in QEMU: a shell, or one program of this machine
    Run(run::RunArgs),
    /// Count the instructions of each crossing, stock and ours
    Bench(bench::BenchArgs),
    /// Run Linux's selftests of the boundary in both variants, and compare
    Selftests(selftests::SelftestsArgs),
    /// Run stress-ng at the boundary, and look for warnings in the log
    Stress(stress::StressArgs),
}

/// Which Linux.
#[derive(Clone, clap::Args)]
pub struct Which {
    #[command(flatten)]
    from: SourceArgs,
    /// The CPU architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// The configuration: fragments of linux/config over tinyconfig
    #[arg(long, value_enum, default_value_t = Config::Small)]
    config: Config,
    /// Linux's own entry code, in the same tree
    #[arg(long)]
    stock: bool,
}

#[derive(clap::Args)]
struct BuildArgs {
    #[command(flatten)]
    which: Which,
}

impl Which {
    fn variant(&self) -> Variant {
        if self.stock { Variant::Stock } else { Variant::Portcullis }
    }

    /// Its image, built if it has to be.
    fn image(&self) -> Result<std::path::PathBuf> {
        build::image(&self.from, self.arch, self.config, self.variant())
    }
}

/// Runs the command.
pub fn linux(args: LinuxArgs) -> Result<ExitCode> {
    match args.command {
        LinuxCommand::Build(BuildArgs { which }) => {
            let image = which.image()?;
            println!("{}", image.display());
            Ok(ExitCode::SUCCESS)
        }
        LinuxCommand::Run(args) => run::run(args),
        LinuxCommand::Stress(args) => stress::stress(args),
        LinuxCommand::Selftests(args) => selftests::selftests(args),
        LinuxCommand::Bench(args) => bench::bench(args).map(|()| ExitCode::SUCCESS),
    }
}
