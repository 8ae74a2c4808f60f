//! The command: builds the programs, boots a kernel with them, says which rows of the catalogue passed and failed.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use portcullis_testkit::inject::{Event, Injection};
use portcullis_testkit::programs::{self, Abi};
use portcullis_testkit::report::Report;
use portcullis_testkit::run::Run;
use portcullis_testkit::tiers::{ALIVE, CROSSINGS, FREESTANDING, Program, Tier};

/// Tests the boundary between user mode and a kernel: yours.
#[derive(Parser)]
#[command(name = "portcullis-testkit", version)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Builds the programs of a tier
    Programs {
        /// What they may ask of the kernel
        #[arg(long, value_enum, default_value_t)]
        tier: Tier,
        /// The folder that they go to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        abi: Abi,
        /// Also a flat image of each, NAME.bin, entered at its first byte
        #[arg(long)]
        flat: bool,
    },
    /// Lists the programs, their checks and the rows that these decide
    List {
        /// Of this tier
        #[arg(long, value_enum, default_value_t)]
        tier: Tier,
    },
    /// Reads a console's log, and prints the rows of the catalogue; the exit status is 1 if something failed or was not run
    Report {
        /// The tier of the programs
        #[arg(long, value_enum, default_value_t)]
        tier: Tier,
        /// These ran only
        #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
        only: Vec<String>,
        /// The log; standard input if it is `-`
        #[arg(long, value_name = "FILE", default_value = "-")]
        log: PathBuf,
        /// What the kernel prints when it ends a program, where no other program follows in the log
        #[arg(long, value_name = "TEXT")]
        killed: Option<String>,
    },
    /// Boots a kernel with the programs, reads its console and prints the rows
    Run(RunArgs),
    /// Injects an event at each instruction of a door, by QEMU's debugger interface, and prints the rows
    Inject(InjectArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// The tier of the programs
    #[arg(long, value_enum, default_value_t)]
    tier: Tier,
    /// The folder of the programs
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// Run these only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// What the kernel prints when it ends a program; needed where each program has a boot of its own
    #[arg(long, value_name = "TEXT")]
    killed: Option<String>,
    /// How long a boot may take, in seconds; 60 if not given, and with tiers (b) and (c) 1800
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The kernel's ELF file, to watch its SYSRETs by QEMU's debugger interface
    #[arg(long, value_name = "ELF")]
    kernel: Option<PathBuf>,
    /// Keep the console's log
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// What boots the kernel and shows its console. `{programs}` stands for a cpio archive of all programs, which the kernel runs
    /// one after the other (tiers (b) and (c): a root file system, whose `/init` runs them), `{program}` for one program
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(clap::Args)]
struct InjectArgs {
    /// The folder of the programs
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The kernel's ELF file, with symbols
    #[arg(long, value_name = "ELF")]
    kernel: PathBuf,
    /// The symbol where the door begins
    #[arg(long, value_name = "SYMBOL")]
    door: String,
    /// What is injected
    #[arg(long, value_enum, default_value_t = Event::Nmi)]
    event: Event,
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// What boots the kernel in QEMU, with one CPU, and shows its console; the same as for `run`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis-testkit: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Subcommands) -> Result<ExitCode> {
    match command {
        Subcommands::Programs { tier, out, abi, flat } if tier != Tier::A => {
            ensure!(!flat && abi == Abi::default(), "--flat and the options of the ABI are for tier (a)");
            let (files, left_out) = programs::build_hosted(&tier.programs(), &out)?;
            if !left_out.is_empty() {
                let names: Vec<&str> = left_out.iter().map(|program| program.name).collect();
                println!("left out: {}; gcc makes no static 32-bit programs (Debian: gcc-multilib)", names.join(", "));
            }
            println!("{} programs and the runner in {}", files.len() - 1, out.display());
            Ok(ExitCode::SUCCESS)
        }
        Subcommands::Programs { out, abi, flat, .. } => {
            let files = programs::build(FREESTANDING.iter().chain(CROSSINGS), &abi, &out)?;
            if flat {
                programs::flatten(&files)?;
            }
            println!("{} programs in {}", files.len(), out.display());
            Ok(ExitCode::SUCCESS)
        }
        Subcommands::List { tier } => {
            let more = if tier == Tier::A { CROSSINGS } else { &[] };
            for program in tier.programs().into_iter().chain(more) {
                for check in program.checks {
                    let rows: Vec<String> = check.rows.iter().map(u32::to_string).collect();
                    println!("{:40} {}", format!("{}/{}", program.name, check.name), rows.join(", "));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Subcommands::Report { tier, only, log, killed } => {
            let programs = chosen(tier, &only)?;
            Ok(print(&Report::read(&programs, &read(&log)?, killed.as_deref())))
        }
        Subcommands::Run(args) => {
            let programs = chosen(args.tier, &args.only)?;
            let timeout = args.timeout.unwrap_or(if args.tier == Tier::A { 60 } else { 1800 });
            let run = Run {
                programs: &args.programs,
                killed: args.killed.as_deref(),
                limit: Duration::from_secs(timeout),
                kernel: args.kernel.as_deref(),
                command: &args.command,
            };
            let (log, report) = run.report(&programs)?;
            if let Some(file) = &args.log {
                fs::write(file, &log).with_context(|| format!("cannot write {}", file.display()))?;
            }
            Ok(print(&report))
        }
        Subcommands::Inject(args) => {
            let run = Run {
                programs: &args.programs,
                killed: None,
                limit: Duration::from_secs(args.timeout),
                kernel: Some(&args.kernel),
                command: &args.command,
            };
            let injection = Injection { run, door: &args.door, event: args.event };
            let (counts, report) = injection.report()?;
            for (program, count) in CROSSINGS.iter().zip(counts) {
                println!("{}: {count} instructions behind {} had their {}", program.name, args.door, args.event.name());
            }
            Ok(print(&report))
        }
    }
}

/// The programs of these names, or all of the tier.
fn chosen(tier: Tier, names: &[String]) -> Result<Vec<&'static Program>> {
    let mut programs = tier.programs();
    if let Some(unknown) = names.iter().find(|name| programs.iter().all(|program| program.name != **name)) {
        bail!("there is no program `{unknown}` in this tier; `portcullis-testkit list` names them");
    }
    // The last one tells whether the kernel lives.
    let wanted = |program: &&Program| names.iter().any(|name| name == program.name) || program.name == ALIVE;
    if !names.is_empty() {
        programs.retain(wanted);
    }
    Ok(programs)
}

fn read(log: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    if log == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print(report: &Report) -> ExitCode {
    print!("{}", report.text());
    if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        const COMMAND: &str = "$ cargo run -p portcullis-testkit -- ";
        let readme = include_str!("../README.md").replace("\\\n", " ");
        let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix(COMMAND)).collect();
        assert!(commands.len() > 5);
        for command in commands {
            let words = command.split_whitespace().map(|word| word.trim_matches('\''));
            let parsed = Arguments::try_parse_from(["portcullis-testkit"].into_iter().chain(words));
            assert!(parsed.is_ok(), "{command}: {}", parsed.err().unwrap());
        }
    }
}
