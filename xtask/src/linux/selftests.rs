//! `./x linux selftests`: Linux's own tests of the boundary in both variants, compared test by test and line by line.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::build::{Tree, Variant};
use super::config::{Arch, Config};
use super::{run, userland};
use crate::qemu::{Machine, MachineType};
use crate::selftests::compare::{Verdict, compare, difference};
use crate::selftests::{self, Image, Outcome, Test};
use crate::setup;

/// Runs Linux's selftests of the boundary in both variants, and compares them.
///
/// x86 (both widths), seccomp, ptrace, syscall_user_dispatch, rseq, sigaltstack, breakpoints. The oracle is what stock
/// does on the same emulated machine, so a test that fails in both is equal.
#[derive(clap::Args)]
pub struct SelftestsArgs {
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

/// Runs the command.
pub fn selftests(args: SelftestsArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX])?;
    let mut tests = selftests::build()?;
    tests.retain(|test| {
        (args.all || !test.extended)
            && (args.arch == Arch::X86_64 || test.bits == 32)
            && (args.only.is_empty() || args.only.iter().any(|part| test.id().contains(part)))
    });
    if tests.is_empty() {
        bail!("no test has any of {:?} in its name", args.only);
    }
    let tree = Tree::new(args.arch, args.config)?;
    let (stock, ours) = (tree.image(Variant::Stock)?, tree.image(Variant::Portcullis)?);
    let machine = Machine {
        cpu: args.cpu.clone(),
        smp: args.smp,
        machine: MachineType::Q35,
        memory: "512M".to_owned(),
        ..Machine::default()
    };
    let log = kernel_log(args.arch)?;
    let chosen: Vec<&Test> = tests.iter().chain([&log]).collect();
    let run_in = |image, variant: Variant| -> Result<BTreeMap<String, Outcome>> {
        eprintln!(
            "x: {} tests in Linux, {variant}, on -cpu {}",
            chosen.len(),
            args.cpu
        );
        let mut image = Image::linux(image);
        image.files = userland::replacements(args.arch)?;
        image.append += " log_buf_len=4M";
        if let Some(khz) = run::clock_khz() {
            image.append += &format!(" tsc_early_khz={khz}");
        }
        selftests::run(&image, &machine, &chosen, |test, outcome| {
            eprintln!("x: {variant}: {} {}", test.id(), outcome.summary());
            if !args.only.is_empty() {
                outcome.output.iter().for_each(|line| eprintln!("    {line}"));
            }
        })
        .with_context(|| format!("running the tests in Linux, {variant}"))
    };
    let theirs = run_in(&stock, Variant::Stock)?;
    let mine = run_in(&ours, Variant::Portcullis)?;

    let mut different = 0;
    for test in &tests {
        let (Some(mine), Some(theirs)) = (mine.get(&test.id()), theirs.get(&test.id())) else {
            bail!("{} was not run in both", test.id());
        };
        let verdict = compare(&test.name, test.bits, mine, theirs);
        let equal = matches!(verdict, Verdict::Equal);
        println!(
            "{:9} {:44} stock {:16} ours {}",
            if equal { "equal" } else { "DIFFERENT" },
            test.id(),
            theirs.summary(),
            mine.summary()
        );
        if !equal {
            different += 1;
            for line in difference(mine, theirs) {
                println!("    {line}");
            }
        }
    }
    for (variant, outcomes) in [(Variant::Stock, &theirs), (Variant::Portcullis, &mine)] {
        let warnings = outcomes
            .get(&log.id())
            .map_or(Vec::new(), |log| warnings(&log.output));
        println!("\n{variant}: {} warnings in the kernel's log", warnings.len());
        warnings.iter().for_each(|line| println!("    {line}"));
        if variant == Variant::Portcullis && !warnings.is_empty() {
            different += 1;
        }
    }
    println!(
        "\n{} tests, {} equal, {different} different",
        tests.len(),
        tests.len().saturating_sub(different)
    );
    Ok(if different == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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
