//! `./x test`: the suites, one after the other, a line per result as it comes, and one summary line at the end.

mod ablate;
mod bochs;
mod command;
mod conformance;
mod debian;
mod differential;
mod emulator;
mod example;
mod fred;
mod fuzz;
mod gdb;
mod guards;
mod guest;
mod host_programs;
mod hosted;
mod instructions;
mod library;
mod lints;
mod linux;
mod machines;
mod noinstr;
mod objdump;
mod peers;
mod programs;
mod prove;
mod report;
mod sessions;
mod stress;
mod symbols;
mod terminal;
mod testkit;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{kernel, setup};
use report::Report;

/// Runs the tests; the last line says `N passed, N failed`.
///
/// Without arguments all suites run. Each result is printed as it comes, a failure with its reason, and all failures once
/// more before the summary. One test runs alone by the name that its result has: `./x test guest/ldt`, `./x test
/// guest/amd-2/ldt`, `./x test library/syscall_hooks_run_exactly_once_in_order`, `./x test kernel/signals::pending`,
/// `./x test programs/bash`.
#[derive(clap::Args)]
pub struct TestArgs {
    /// Run these only: a suite, or a test of `guest`, `bochs`, `programs`, `host-programs` or `library` (also `kernel/...` and `loom/...`)
    #[arg(value_name = "TEST", conflicts_with_all = ["only", "program", "ablate"])]
    tests: Vec<String>,
    /// Run these suites only
    #[arg(long, value_delimiter = ',', value_name = "SUITE,...")]
    only: Vec<String>,
    /// Of the suites `guest` and `bochs`, run these programs only
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", conflicts_with = "ablate")]
    program: Vec<String>,
    /// Of the suites `guest` and `bochs`, use these machines only
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", conflicts_with = "ablate")]
    machine: Vec<String>,
    /// List the suites
    #[arg(long)]
    list: bool,
    /// Take out each guard of docs/guards.md (or those named) and check that its tests fail then
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "only")]
    ablate: Option<Vec<String>>,
    /// How long the storm test of the guest suite lasts
    #[arg(long, value_name = "SECS", default_value_t = 5)]
    storm: u32,
    /// How long each program of the suite `stress` runs
    #[arg(long, value_name = "SECS", default_value_t = 20)]
    stress: u64,
    /// Also what takes long: the suites `bochs`, `bochs-conformance`, `fuzz` and `stress`; Linux built, booted, and its selftests in
    /// both variants
    #[arg(long)]
    all: bool,
}

/// A group of tests.
struct Suite {
    name: &'static str,
    about: &'static str,
    run: fn(&TestArgs, &mut Report) -> Result<()>,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "library",
        about: "unit, explorer, compile-fail and generated-code tests, the loom models, the kernel's and the host tool's own tests",
        run: |args, report| library::run(&args.of("library"), report),
    },
    Suite {
        name: "lint",
        about: "formatting, clippy and documentation without warnings",
        run: |_, report| lints::run(report),
    },
    Suite {
        name: "peers",
        about: "the kernels of bench/peers, which stand on other crates; with --all the one on ostd, too",
        run: |args, report| peers::run(args.all, report),
    },
    Suite {
        name: "example",
        about: "the kernels of examples/, and what the template makes, in QEMU; with --all each step of blog-os",
        run: |args, report| example::run(args.all, report),
    },
    Suite {
        name: "testkit",
        about: "the testkit on kernels with the library and without: with a bug planted its row fails, and else none",
        run: |args, report| testkit::run(args.all, report),
    },
    Suite {
        name: "guest",
        about: "the programs of tests/guest in the reference kernel, on Intel and AMD models, 1 and 2 CPUs",
        run: |args, report| guest::run(&args.programs("guest"), &args.machines("guest"), args.storm, report),
    },
    Suite {
        name: "bochs",
        about: "the programs of tests/guest on Bochs, which is right where QEMU is wrong; without --only, with --all alone",
        run: |args, report| bochs::run(&args.programs("bochs"), &args.machines("bochs"), args.storm, report),
    },
    Suite {
        name: "emulator",
        about: "the emulator shows of a processor what docs/emulators.md says; with --all Bochs, too",
        run: |args, report| emulator::run(args.all, report),
    },
    Suite {
        name: "machines",
        about: "the reference kernel on machines that tell of their processors and timers in different ways",
        run: |_, report| machines::run(report),
    },
    Suite {
        name: "instructions",
        about: "an NMI, a machine check and a debug exception at each instruction of each door, by QEMU's debugger interface",
        run: |_, report| instructions::run(report),
    },
    Suite {
        name: "prove",
        about: "the machine code of every door, for all register values; with --all each instruction is taken out",
        run: |args, report| prove::run(args.all, report),
    },
    Suite {
        name: "programs",
        about: "the real programs of tests/programs, in the reference kernel and on the host: same output",
        run: |args, report| programs::run(&args.programs("programs"), report),
    },
    Suite {
        name: "host-programs",
        about: "the programs of docs/programs.md, by `./x run` and on the host: same output; with --all the second part, too",
        run: |args, report| host_programs::run(&args.programs("host-programs"), args.all, report),
    },
    Suite {
        name: "conformance",
        about: "Linux's selftests of the boundary in the reference kernel, against the record of stock Linux",
        run: |_, report| conformance::run(report),
    },
    Suite {
        name: "bochs-conformance",
        about: "the same on an Intel and an AMD model of Bochs, one CPU each; without --only, with --all alone",
        run: |_, report| conformance::on_bochs(report),
    },
    Suite {
        name: "differential",
        about: "random programs in the reference kernel and in Debian's Linux; with --all a million crossings",
        run: |args, report| differential::run(args.all, report),
    },
    Suite {
        name: "fuzz",
        about: "each fuzz target for 20 seconds; without --only, with --all alone (the suite library runs the inputs that are kept)",
        run: |_, report| fuzz::run(report),
    },
    Suite {
        name: "stress",
        about: "crashme, trinity and stress-ng in the reference kernel, on two CPUs; without --only, with --all alone",
        run: |args, report| stress::run(args.stress, report),
    },
    Suite {
        name: "run",
        about: "`./x run` itself: streams, exit codes, the terminal, the panic path, what comes along with a program",
        run: |_, report| command::run(report),
    },
    Suite {
        name: "linux",
        about: "the Linux overlay: its Rust for both widths; with --all also Linux built, booted, and its selftests",
        run: |args, report| linux::run(args.all, report),
    },
];

/// The suites that run with `--all` alone, or by name.
const LONG: &[&str] = &["bochs", "bochs-conformance", "fuzz", "stress"];

/// What runs where nothing is chosen.
#[cfg(test)]
pub fn default_suites() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).filter(|name| !LONG.contains(name)).collect()
}

/// The suites whose tests can be chosen one by one.
const DIVISIBLE: &[&str] = &["library", "guest", "bochs", "programs", "host-programs"];

/// One of the arguments: a suite, or a test of it.
#[derive(Debug, PartialEq)]
struct Wanted<'a> {
    suite: &'a str,
    /// The parts of the suite `library` are `library`, `kernel` and `loom`; the others have one part.
    part: &'a str,
    name: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Wanted<'a>> {
        let (part, name) = match text.split_once('/') {
            Some((part, name)) if !name.is_empty() => (part, Some(name)),
            Some((part, _)) => (part, None),
            None => (text, None),
        };
        let suite = if ["kernel", "loom"].contains(&part) { "library" } else { part };
        ensure_suite(suite)?;
        ensure!(
            name.is_none() || DIVISIBLE.contains(&suite),
            "tests of the suite `{suite}` do not run alone; those of {} do",
            DIVISIBLE.join(", ")
        );
        Ok(Wanted { suite, part, name })
    }
}

impl TestArgs {
    /// What is wanted of a suite.
    fn of<'a>(&'a self, suite: &str) -> Vec<Wanted<'a>> {
        let wanted = self.tests.iter().filter_map(|text| Wanted::parse(text).ok());
        wanted.filter(|wanted| wanted.suite == suite).collect()
    }

    /// The tests of a suite that are wanted: all if there is none.
    fn programs(&self, suite: &str) -> Vec<String> {
        let named = self.of(suite).into_iter().filter_map(|wanted| wanted.name);
        named.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).chain(self.program.clone()).collect()
    }

    /// The machines for them: all if there is none.
    fn machines(&self, suite: &str) -> Vec<String> {
        let named = self.of(suite).into_iter().filter_map(|wanted| wanted.name?.split_once('/'));
        named.map(|(machine, _)| machine.to_owned()).chain(self.machine.clone()).collect()
    }
}

/// Fails if no suite has this name.
fn ensure_suite(name: &str) -> Result<()> {
    let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
    ensure!(names.contains(&name), "there is no suite `{name}`; there are {}", names.join(", "));
    Ok(())
}

/// Compiles one program of `tests/guest`, and gives its path.
pub fn guest_program(name: &str) -> Result<std::path::PathBuf> {
    guest::compile(name)
}

/// Runs it.
pub fn test(args: TestArgs) -> Result<ExitCode> {
    if args.list {
        for suite in SUITES {
            println!("{:17} {}", suite.name, suite.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    args.only.iter().try_for_each(|name| ensure_suite(name))?;
    let wanted = args.tests.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>>>()?;
    setup::ensure(&[setup::QEMU, setup::BUSYBOX, setup::LINKER, setup::GCC, setup::MUSL, setup::GIT])?;

    let mut report = Report::default();
    if let Some(guards) = &args.ablate {
        ablate::run(guards, &mut report)?;
        return Ok(report.finish());
    }
    let guest_only = !args.program.is_empty() || !args.machine.is_empty();
    let chosen = |suite: &&Suite| match &args.only[..] {
        [] if !wanted.is_empty() => wanted.iter().any(|wanted| wanted.suite == suite.name),
        [] if guest_only => suite.name == "guest",
        [] => args.all || !LONG.contains(&suite.name),
        only => only.iter().any(|name| name == suite.name),
    };
    if wanted.is_empty() && args.only.is_empty() && !guest_only {
        let start = Instant::now();
        // A suite that needs one which cannot be built says so.
        if let Err(error) = kernel::build_for_tests() {
            eprintln!("x: {error:#}");
        }
        report.timing("kernels", start.elapsed());
    }
    for suite in SUITES.iter().filter(chosen) {
        let start = Instant::now();
        println!("== {}: {}", suite.name, suite.about);
        let before = report.results();
        if let Err(error) = (suite.run)(&args, &mut report) {
            report.fail(suite.name, &format!("{error:#}"));
        }
        if report.results() == before {
            report.fail(suite.name, "there is no such test");
        }
        report.timing(suite.name, start.elapsed());
    }
    Ok(report.finish())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TestArgs,
    }

    fn args(line: &[&str]) -> TestArgs {
        Line::parse_from(["test"].iter().chain(line)).args
    }

    #[test]
    fn one_test_is_chosen_by_the_name_of_its_result() {
        let line = args(&["guest/ldt", "guest/amd-2/cpuid", "bochs", "kernel/signals::pending", "loom"]);
        assert_eq!(line.programs("guest"), ["ldt", "cpuid"]);
        assert_eq!(line.machines("guest"), ["amd-2"]);
        assert!(line.programs("bochs").is_empty() && line.machines("bochs").is_empty());
        let wanted = |part, name| Wanted { suite: "library", part, name };
        assert_eq!(line.of("library"), [wanted("kernel", Some("signals::pending")), wanted("loom", None)]);
        assert_eq!(args(&["guest/ldt", "--machine", "intel-2"]).machines("guest"), ["intel-2"]);
        assert_eq!(args(&["--program", "ldt"]).programs("guest"), ["ldt"]);
    }

    #[test]
    fn a_suite_that_there_is_not_and_a_test_that_does_not_run_alone_are_refused() {
        assert!(Wanted::parse("nothing").unwrap_err().to_string().starts_with("there is no suite `nothing`"));
        assert!(Wanted::parse("lint/fmt").unwrap_err().to_string().contains("do not run alone"));
        assert_eq!(Wanted::parse("lint").unwrap().name, None);
    }
}
