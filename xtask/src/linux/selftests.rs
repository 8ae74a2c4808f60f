//! `./x linux selftests`: Linux's own tests of the boundary in both variants, compared test by test and line by line.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use super::build::{Tree, Variant};
use super::config::{Arch, Config};
use super::source::SourceArgs;
use super::{run, userland};
use crate::qemu::{Machine, MachineType};
use crate::selftests::compare::{Attempt, Attempts, difference};
use crate::selftests::{self, Image, Outcome, Test};
use crate::setup;

/// How often a test is run in both kernels until it comes to the same: what some come to is decided by races, in stock too.
/// In which ours hangs or dies is not run again.
const ATTEMPTS: u32 = 3;

/// Runs Linux's selftests of the boundary in both variants, and compares them.
///
/// x86 (both widths), seccomp, ptrace, syscall_user_dispatch, rseq, sigaltstack, breakpoints. The oracle is what stock
/// does on the same emulated machine, so a test that fails in both is equal.
#[derive(clap::Args)]
pub struct SelftestsArgs {
    #[command(flatten)]
    from: SourceArgs,
    /// The CPU architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// The configuration
    #[arg(long, value_enum, default_value_t = Config::Small)]
    config: Config,
    /// CPU model, as QEMU takes it. With SMAP, QEMU makes stock Linux oops in some tests
    #[arg(long, value_name = "MODEL", default_value = "max,smap=off")]
    cpu: String,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// Only tests whose name has this in it; their output is shown
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    only: Vec<String>,
    /// Also the injections of rseq's param_test, which are hundreds of runs
    #[arg(long)]
    all: bool,
}

/// How much longer a test may take in the debug configuration.
const DEBUG_FACTOR: u32 = 4;

/// Runs the command.
pub fn selftests(args: SelftestsArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX])?;
    let tree = Tree::new(&args.from, args.arch, args.config)?;
    let mut tests = selftests::build(tree.version(), Some(tree.unpacked()))?;
    tests.retain(|test| {
        (args.all || !test.extended)
            && (args.arch == Arch::X86_64 || test.bits == 32)
            && (args.only.is_empty() || args.only.iter().any(|part| test.id().contains(part)))
    });
    if args.config == Config::Debug {
        // Every lock that is taken is looked at.
        tests.iter_mut().for_each(|test| test.limit *= DEBUG_FACTOR);
    }
    if tests.is_empty() {
        bail!("no test has any of {:?} in its name", args.only);
    }
    let (stock, ours) = (tree.image(Variant::Stock)?, tree.image(Variant::Portcullis)?);
    let machine = Machine {
        cpu: args.cpu.clone(),
        smp: args.smp,
        machine: MachineType::Q35,
        memory: Some("512M".to_owned()),
        ..Machine::default()
    };
    let log = kernel_log(args.arch)?;
    let run_in = |image, variant: Variant, tests: &[&Test]| -> Result<BTreeMap<String, Outcome>> {
        eprintln!("x: {} tests in Linux, {variant}, on -cpu {}", tests.len(), args.cpu);
        let mut image = Image::linux(image);
        image.files = userland::replacements(args.arch)?;
        image.append += " log_buf_len=4M";
        if let Some(khz) = run::clock_khz() {
            image.append += &format!(" tsc_early_khz={khz}");
        }
        let with_log: Vec<&Test> = tests.iter().copied().chain([&log]).collect();
        selftests::run(&image, &machine, &with_log, |test, outcome| {
            eprintln!("x: {variant}: {} {}", test.id(), outcome.summary());
            if !args.only.is_empty() {
                outcome.output.iter().for_each(|line| eprintln!("    {line}"));
            }
        })
        .with_context(|| format!("running the tests in Linux, {variant}"))
    };

    let mut logs: [(Variant, Vec<String>); 2] = [(Variant::Stock, Vec::new()), (Variant::Portcullis, Vec::new())];
    let (mut at_once, mut later, mut different) = (0, 0, 0);
    let mut waiting: Vec<&Test> = tests.iter().collect();
    let mut all: BTreeMap<String, Attempts> = BTreeMap::new();
    for attempt in 1..=ATTEMPTS {
        let theirs = run_in(&stock, Variant::Stock, &waiting)?;
        let mine = run_in(&ours, Variant::Portcullis, &waiting)?;
        for ((variant, lines), outcomes) in logs.iter_mut().zip([&theirs, &mine]) {
            let said = outcomes.get(&log.id()).context("the kernel's log was not read")?;
            ensure!(said.passed(), "the log of {variant} was not read to its end: {}", said.summary());
            lines.extend(warnings(&said.output).into_iter().cloned());
        }
        let mut again = Vec::new();
        for test in waiting {
            let (Some(mine), Some(theirs)) = (mine.get(&test.id()), theirs.get(&test.id())) else {
                bail!("{} was not run in both", test.id());
            };
            let attempts = all.entry(test.id()).or_default();
            attempts.ours.push(mine.clone());
            attempts.stock.push(theirs.clone());
            let judged = attempts.judge(&test.name, test.bits, attempt == ATTEMPTS);
            let word = match judged {
                Attempt::Equal => "equal",
                Attempt::Again => "again",
                Attempt::Failed(how) => how,
            };
            match judged {
                Attempt::Equal if attempt == 1 => at_once += 1,
                Attempt::Equal => later += 1,
                Attempt::Again => again.push(test),
                Attempt::Failed(_) => different += 1,
            }
            println!("{word:9} {:44} stock {:16} ours {}", test.id(), theirs.summary(), mine.summary());
            if word != "equal" {
                for line in difference(mine, theirs) {
                    println!("    {line}");
                }
            }
        }
        waiting = again;
        if waiting.is_empty() {
            break;
        }
    }
    let mut clean = true;
    for (variant, warnings) in &logs {
        println!("\n{variant}: {} warnings in the kernel's log", warnings.len());
        warnings.iter().for_each(|line| println!("    {line}"));
        clean &= *variant == Variant::Stock || warnings.is_empty();
    }
    println!(
        "\n{} tests, {} equal ({later} not at the first attempt), {different} different",
        tests.len(),
        at_once + later
    );
    Ok(if different == 0 && clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the kernel said in all, as the last of the tests.
fn kernel_log(arch: Arch) -> Result<Test> {
    let busybox = match arch {
        Arch::X86_64 => setup::busybox().context("no static busybox on this machine")?,
        Arch::I386 => userland::busybox_32()?,
    };
    Ok(Test {
        name: "log/busybox dmesg".to_owned(),
        bits: 64,
        program: busybox,
        arguments: vec!["dmesg".to_owned()],
        environment: Vec::new(),
        limit: 60,
        extended: false,
    })
}

/// The lines by which Linux says that something is wrong with itself.
pub fn warnings(log: &[String]) -> Vec<&String> {
    const SIGNS: [&str; 9] = [
        "WARNING: ",
        "BUG: ",
        "INFO: rcu",
        "INFO: task",
        "INFO: possible",
        "INFO: suspicious",
        "Oops",
        "general protection fault: ",
        "Kernel panic",
    ];
    let bad = |line: &&String| SIGNS.iter().any(|sign| line.contains(sign));
    log.iter().filter(bad).collect()
}
