//! Of the suite `testkit`, tiers (b) and (c): programs with a C library. No row of the catalogue fails in the reference kernel, nor in stock
//! Linux, which does not use the library; without a guard its row does. They never run on the host: as root they would be too much for it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_testkit::hosted::{RUNNER, SIGNAL_CALLS};
use portcullis_testkit::programs;
use portcullis_testkit::report::{Report as Rows, Verdict};
use portcullis_testkit::run::Run;
use portcullis_testkit::tiers::{Program, Source, Tier};

use super::report::Report;
use super::{ablate, guest};
use crate::linux::build::{Variant, image};
use crate::linux::config::{Arch, Config};
use crate::linux::source::{SourceArgs, Version, archive};
use crate::{emulator, kernel, progress, repository};

/// How long the boots of one test may take together: they take a minute.
const LIMIT: Duration = Duration::from_secs(1200);

/// Guards, a row that no program of tier (a) checks and that fails without the guard, and the program that shows it. They are out of one
/// kernel together: each program meets its own.
const GUARDS: &[(&str, u32, &str)] = &[
    ("sigreturn-rpl", 22, "sigreturn_forged"),
    ("tls-16bit", 4, "ldt"),
    ("espfix", 5, "ldt"),
    ("call-arch", 9, "hook_seccomp"),
    ("xrstor-fixup", 14, "sigreturn_xstate"),
    ("debug-addresses", 17, "ptrace_debug"),
    ("filter-after-tracer", 18, "hook_seccomp"),
    ("ptrace-flags-lost", 36, "ptrace_registers"),
    ("sleep-pending", 37, "sleep_pending"),
    ("rseq-recursion", 38, "hook_rseq"),
    ("ptrace-signal-wakes", 40, "ptrace_stops"),
];

/// Runs this part of the suite.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    let directory = repository("target/testkit");
    // With debug assertions, as the suite `guest` has it: `hook_rseq` expects a check that only such a kernel makes.
    let reference = kernel::build_checked(false)?;
    let outcome = signal_calls(&directory, &reference).map_err(|error| format!("{error:#}"));
    report.outcome("testkit/tier (b), the reference kernel with its calls alone", outcome);
    // The suite `guest` compiles the same sources.
    let with_rows: Vec<&Program> =
        Tier::C.programs().into_iter().filter(|program| !program.checks.is_empty()).collect();
    let programs = with_rows.iter().try_fold(guest::compile(RUNNER)?, |_, program| guest::compile(program.name))?;
    let programs = programs.parent().context("they are in a folder")?;
    let name = "testkit/tier (c), the reference kernel";
    report
        .outcome(name, in_the_reference_kernel(programs, &reference, &with_rows).map_err(|error| format!("{error:#}")));
    if !all {
        report.skip(name, "the programs that are in no row come with the suite guest");
        report.skip("testkit/tier (c), stock Linux, and guards taken out", "takes ten minutes: ./x test --all");
        return Ok(());
    }
    let name = "testkit/tier (c), stock Linux";
    match archive(Version::V6_12) {
        Ok(_) => report.outcome(name, in_stock_linux(&directory).map_err(|error| format!("{error:#}"))),
        Err(error) => report.skip(name, &format!("{error:#}")),
    }
    let guards: Vec<&str> = GUARDS.iter().map(|(guard, ..)| *guard).collect();
    let kernel = ablate::kernel_without(&guards)?;
    for &(guard, row, program) in GUARDS {
        let outcome = without(&kernel, row, program, programs).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("testkit/row {row} without {guard}"), outcome);
    }
    Ok(())
}

/// The programs of tier (b) need no more than the calls that the testkit names.
fn signal_calls(directory: &Path, kernel: &Path) -> Result<()> {
    let programs = directory.join("tier-b");
    programs::build_hosted(&Tier::B.programs(), &programs)?;
    let filter = programs.join("only_calls");
    let calls: Vec<String> = SIGNAL_CALLS.iter().map(|call| format!("CALL({call})")).collect();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-static"]).arg(format!("-DCALLS={}", calls.join(" ")));
    gcc.arg("-o").arg(&filter).arg(repository("tests/testkit/only_calls.c"));
    progress::step("compiling only_calls.c", &mut gcc, progress::BUILD)?;
    let mut root = crate::initramfs::Initramfs::default();
    let mut list = String::new();
    for program in Tier::B.programs() {
        root.copy(Path::new("tests").join(program.name), &programs.join(program.name))?;
        list += &format!("{0} 120 /tests/only_calls /tests/{0}\n", program.name);
    }
    root.copy("tests/only_calls", &filter)?.copy("init", &programs.join(RUNNER))?.file("tests/list", 0o644, list);
    root.directory("proc").directory("tmp");
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;
    // A boot of everything, as of one program.
    let mut command = reference_command(kernel);
    command.iter_mut().filter(|word| *word == "{programs}").for_each(|word| *word = initrd.clone().into());
    let (program, arguments) = command.split_first().context("there is a command")?;
    let output = progress::output(Command::new(program).args(arguments))?;
    let log = String::from_utf8_lossy(&output.stdout);
    let rows = Rows::read(&Tier::B.programs(), &log, None);
    ensure!(rows.is_well(), "{}\n{log}", rows.text());
    each_pattern_is_used(&Tier::B.programs(), &rows)
}

fn in_the_reference_kernel(directory: &Path, kernel: &Path, programs: &[&'static Program]) -> Result<()> {
    let (log, rows) = boot(directory, &reference_command(kernel), programs)?;
    ensure!(rows.is_well(), "{}\n{log}", rows.text());
    each_pattern_is_used(programs, &rows)
}

/// Linux with its own entry code: what the programs expect is what it does.
fn in_stock_linux(directory: &Path) -> Result<()> {
    let programs = directory.join("tier-c");
    let (_, left_out) = programs::build_hosted(&Tier::C.programs(), &programs)?;
    ensure!(left_out.is_empty(), "the compiler makes no 32-bit programs");
    let image = image(&SourceArgs::debian(Version::V6_12), Arch::X86_64, Config::Small, Variant::Stock)?;
    let (log, rows) = boot(&programs, &linux_command(&image), &Tier::C.programs())?;
    ensure!(rows.is_well(), "{}\n{log}", rows.text());
    let sums = rows.text().lines().find(|line| line.starts_with("rows: ")).unwrap_or_default().to_owned();
    let readme = fs::read_to_string(repository("crates/testkit/README.md"))?;
    ensure!(readme.contains(&sums), "crates/testkit/README.md does not say `{sums}`\n{}", rows.text());
    let passed = GUARDS.iter().filter(|(_, row, _)| rows.row(*row).0 != Verdict::Passed);
    let missing: Vec<u32> = passed.map(|(_, row, _)| *row).collect();
    ensure!(missing.is_empty(), "rows that have not passed: {missing:?}\n{}", rows.text());
    let saying = |program: &&Program| {
        rows.0.iter().any(|finding| finding.program == program.name && finding.verdict == Verdict::Passed)
    };
    let silent: Vec<&str> =
        Tier::C.programs().iter().filter(|program| !saying(program)).map(|program| program.name).collect();
    // Linux 6.12 has neither.
    ensure!(silent == ["rseq_extended", "rseq_slice"], "programs that check nothing in Linux: {silent:?}");
    Ok(())
}

/// The row fails without the guard.
fn without(kernel: &Path, row: u32, program: &str, directory: &Path) -> Result<()> {
    let programs: Vec<&Program> = Tier::C.programs().into_iter().filter(|one| one.name == program).collect();
    let (log, rows) = boot(directory, &reference_command(kernel), &programs)?;
    let failed = rows.failed_rows();
    ensure!(failed.contains(&row), "the rows that fail are {failed:?}\n{}\n{log}", rows.text());
    Ok(())
}

fn boot(directory: &Path, command: &[OsString], programs: &[&'static Program]) -> Result<(String, Rows)> {
    Run { programs: directory, killed: None, limit: LIMIT, kernel: None, command }.report(programs)
}

/// A pattern that no check's name matches is of a check that there is no more, unless it is one that the program names when it fails alone.
fn each_pattern_is_used(programs: &[&'static Program], rows: &Rows) -> Result<()> {
    for program in programs {
        let Source::Hosted(text) = program.source else { continue };
        for check in program.checks {
            let named = rows.0.iter().any(|finding| finding.program == program.name && check.is_named(&finding.check));
            let in_source = text.contains(&format!("\"{}\"", check.name.trim_matches('*')));
            ensure!(named || in_source, "{}: no check is named `{}`", program.name, check.name);
        }
    }
    Ok(())
}

fn reference_command(kernel: &Path) -> Vec<OsString> {
    let machine = "-M microvm -cpu Skylake-Client -append stdin=stream";
    let control = "-device isa-debug-exit,iobase=0xf4,iosize=4";
    command(&format!("{machine} {control}"), kernel)
}

fn linux_command(image: &Path) -> Vec<OsString> {
    // QEMU's SMAP is wrong about far calls. Messages between a program's letters would spoil its lines.
    let mut command = command("-M q35 -cpu max,-smap", image);
    let mut words = "console=ttyS0 panic=-1 loglevel=1 vsyscall=xonly".to_owned();
    if let Some(khz) = crate::linux::clock_khz() {
        words += &format!(" tsc_early_khz={khz}");
    }
    command.extend(["-append".into(), words.into()]);
    command
}

fn command(machine: &str, kernel: &Path) -> Vec<OsString> {
    const REST: &str =
        "-smp 2 -m 512M -nodefaults -no-user-config -display none -no-reboot -serial stdio -initrd {programs} -kernel";
    let mut command = vec![emulator::qemu()];
    command.extend(machine.split_whitespace().chain(REST.split_whitespace()).map(OsString::from));
    command.push(kernel.into());
    command
}
