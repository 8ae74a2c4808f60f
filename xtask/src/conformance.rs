//! `./x conformance`: Linux's own tests of the boundary, in our kernel and in Linux, on the same emulated machine.

mod page;
mod record;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::emulator::Emulator;
use crate::linux::build::Variant;
use crate::linux::config::{Arch, Config};
use crate::linux::source::{SourceArgs, Version};
use crate::qemu::{Machine, MachineType};
use crate::selftests::compare::{Verdict, compare, difference, fails_alone};
use crate::selftests::outcome::Ending;
use crate::selftests::{self, Image, Outcome, Test};
use crate::{bench, kernel, linux, setup};
use record::Record;

/// Runs Linux's selftests of the boundary in our kernel and in stock Linux, and compares them test by test.
///
/// Fetches and builds them first: x86 (both widths), seccomp, ptrace, syscall_user_dispatch, rseq, sigaltstack,
/// breakpoints. A test is equal when it ends alike and its result lines are the same. Any difference that is not on the
/// list in xtask/src/selftests/compare.rs is a failure; passing where Linux does not is none. Where a test makes stock
/// Linux oops or hang on the emulated machine, ours must give what stock gives on a machine where it survives, or the signal.
#[derive(clap::Args)]
pub struct ConformanceArgs {
    /// CPU model, as QEMU takes it, once for each (default: all that the project promises)
    #[arg(long, value_name = "MODEL")]
    cpu: Vec<String>,
    /// Number of CPUs on each model (default: 2, and 1 and 4 on the first)
    #[arg(long, value_name = "N", value_delimiter = ',')]
    smp: Vec<u32>,
    /// Only tests whose name has this in it, such as `x86/`, `sigreturn_32`; their output is shown
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the injections of rseq's param_test, which are hundreds of runs
    #[arg(long)]
    quick: bool,
    /// Compare with the recorded results of stock Linux
    #[arg(long)]
    no_stock: bool,
    /// Run stock Linux alone, and record its results in tests/conformance/stock.txt
    #[arg(long, conflicts_with = "no_stock")]
    record: bool,
    /// Where the table goes as data
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table to docs/conformance.md
    #[arg(long)]
    doc: bool,
    /// Test this image of our kernel instead of building one
    #[arg(long, value_name = "ELF")]
    kernel: Option<PathBuf>,
    /// The Linux to compare with: `small` (built as `./x linux build --stock` does, with 16-bit segments), `debian` (its cloud
    /// kernel, which has none: three tests show that), or an image
    #[arg(long, value_name = "WHICH", default_value = "small")]
    stock: PathBuf,
}

/// The CPU models: SMAP on and off, an Intel and an AMD one.
const MODELS: &[&str] = &["max,smap=off", "max", "Skylake-Client", "EPYC"];

/// How a program ends that is told of a fault and has no handler for it.
const SEGMENTATION_FAULT: Ending = Ending::Signal(11);

/// The machine on which stock Linux survives all tests.
fn reference_machine() -> Machine {
    machine(MODELS[0], 2)
}

/// One row of the table.
pub struct Row {
    /// The test.
    pub test: String,
    /// Its width.
    pub bits: u32,
    cpu: String,
    smp: u32,
    /// What it came to in our kernel.
    pub ours: String,
    /// What it came to in stock Linux.
    pub stock: String,
    /// How they compare.
    pub verdict: Verdict,
    /// The result lines that only one has.
    pub difference: Vec<String>,
}

/// The tests, without the many modes of one of them, in an image of our kernel on the reference machine, compared with the
/// record.
pub fn against_record(kernel: &Path) -> Result<Vec<Row>> {
    compare_with_record(kernel, &reference_machine(), &reference_machine())
}

/// The same on a model of Bochs with one CPU, compared with the record of a QEMU's model of the same vendor.
pub fn on_bochs(kernel: &Path, cpu: &str, qemu_cpu: &str) -> Result<Vec<Row>> {
    let stock = machine(qemu_cpu, 1);
    let bochs = Machine { cpu: cpu.to_owned(), emulator: Emulator::Bochs, ..stock.clone() };
    compare_with_record(kernel, &bochs, &stock)
}

/// Ours on one machine, stock on another.
fn compare_with_record(kernel: &Path, machine: &Machine, stock_machine: &Machine) -> Result<Vec<Row>> {
    let tests = chosen(&[], true)?;
    let tests: Vec<&Test> = tests.iter().collect();
    let record = Record::read()?;
    let ours = run("ours", &Image::reference(kernel), machine, &tests, false)?;
    Ok(judge(&tests, machine, &ours, &record.outcomes(stock_machine), &record))
}

/// Runs the command.
pub fn conformance(args: ConformanceArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX, setup::LINKER])?;
    let tests = chosen(&args.only, args.quick)?;
    let ours = match (&args.kernel, args.record) {
        (_, true) => None,
        (Some(path), false) => Some(Image::reference(path)),
        (None, false) => Some(Image::reference(&kernel::build_checked(false)?)),
    };
    let stock = match args.stock.to_str() {
        _ if args.no_stock => None,
        Some("debian") => Some(Image::linux(&bench::stock::image()?)),
        Some("small") => {
            let from = SourceArgs::debian(Version::V6_1);
            let image = linux::build::image(&from, Arch::X86_64, Config::Small, Variant::Stock)?;
            Some(Image::linux(&image))
        }
        _ => Some(Image::linux(&args.stock)),
    };
    let mut recorded = Record::read()?;
    let mut rows = Vec::new();
    for (index, machine) in machines(&args).into_iter().enumerate() {
        // The modes of param_test say little about the CPU model.
        let extended = index == 0 && !args.record;
        let tests: Vec<&Test> = tests.iter().filter(|test| extended || !test.extended).collect();
        let theirs = match &stock {
            Some(stock) => run("stock", stock, &machine, &tests, !args.only.is_empty())?,
            None => recorded.outcomes(&machine),
        };
        if let (Some(stock), true) = (&stock, args.record) {
            recorded.replace(&machine, &tests, &theirs);
            recorded.version = version(&stock.path)?;
            // As it comes: a whole record takes long.
            recorded.write()?;
        }
        if let Some(ours) = &ours {
            let ours = run("ours", ours, &machine, &tests, !args.only.is_empty())?;
            let new = judge(&tests, &machine, &ours, &theirs, &recorded);
            show_differences(&new);
            rows.extend(new);
        }
    }
    if args.record {
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", page::table(&rows));
    if let Some(path) = &args.json {
        write_json(path, &rows)?;
    }
    if args.doc {
        let stock = match &stock {
            Some(stock) => version(&stock.path)?,
            None => format!("{}, recorded in tests/conformance/stock.txt", recorded.version),
        };
        page::write(&rows, &stock)?;
    }
    let different = rows.iter().filter(|row| !row.verdict.is_accepted()).count();
    println!("\n{} rows, {different} different", rows.len());
    Ok(if different == 0 && !rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(only: &[String], quick: bool) -> Result<Vec<Test>> {
    let mut tests = selftests::build(Version::V6_1, None)?;
    tests.retain(|test| {
        let id = test.id();
        // Of Linux's futex tests the clock decides some, in stock too: they are for comparing two Linuxes, and not recorded.
        !test.name.starts_with("futex/")
            && (!quick || !test.extended)
            && (only.is_empty() || only.iter().any(|part| id.contains(part) || test.name == *part))
    });
    if tests.is_empty() {
        bail!("no test has any of {only:?} in its name");
    }
    Ok(tests)
}

fn machines(args: &ConformanceArgs) -> Vec<Machine> {
    let models: Vec<&str> = match args.cpu.is_empty() {
        true => MODELS.to_vec(),
        false => args.cpu.iter().map(String::as_str).collect(),
    };
    let mut machines = Vec::new();
    for (index, cpu) in models.iter().enumerate() {
        let counts = match (args.smp.is_empty(), index) {
            (false, _) => args.smp.clone(),
            (true, 0) if args.cpu.is_empty() => vec![2, 1, 4],
            (true, _) => vec![2],
        };
        machines.extend(counts.into_iter().map(|smp| machine(cpu, smp)));
    }
    machines
}

fn machine(cpu: &str, smp: u32) -> Machine {
    Machine {
        cpu: cpu.to_owned(),
        smp,
        machine: MachineType::Q35,
        memory: Some("512M".to_owned()),
        ..Machine::default()
    }
}

fn run(name: &str, image: &Image, machine: &Machine, tests: &[&Test], show: bool) -> Result<BTreeMap<String, Outcome>> {
    eprintln!("x: {} tests in {name} on -cpu {} -smp {}", tests.len(), machine.cpu, machine.smp);
    let each = |test: &Test, outcome: &Outcome| {
        eprintln!("x: {name}: {} {}", test.id(), outcome.summary());
        if show {
            outcome.output.iter().for_each(|line| eprintln!("    {line}"));
        }
    };
    selftests::run(image, machine, tests, each).with_context(|| format!("running the tests in {name}"))
}

fn judge(
    tests: &[&Test],
    machine: &Machine,
    ours: &BTreeMap<String, Outcome>,
    stock: &BTreeMap<String, Outcome>,
    record: &Record,
) -> Vec<Row> {
    let elsewhere = record.outcomes(&reference_machine());
    let row = |test: &&Test| {
        let id = test.id();
        let plain = || stock.get(&test.plain_id()?);
        let (mine, theirs) = (ours.get(&id), stock.get(&id).or_else(plain));
        let summary = |outcome: Option<&Outcome>| outcome.map_or("not run".to_owned(), Outcome::summary);
        let alone = mine.zip(theirs).and_then(|(mine, theirs)| fails_alone(mine, theirs));
        Row {
            test: test.name.clone(),
            bits: test.bits,
            cpu: machine.cpu.clone(),
            smp: machine.smp,
            ours: match alone {
                Some(how) => format!("{how}: {}", summary(mine)),
                None => summary(mine),
            },
            stock: summary(theirs),
            verdict: verdict(test, mine, theirs, elsewhere.get(&id)),
            difference: mine
                .zip(theirs)
                .map(|(mine, theirs)| difference(mine, oracle(theirs, elsewhere.get(&id))))
                .unwrap_or_default(),
        }
    };
    tests.iter().map(row).collect()
}

/// What ours is to give: what stock gives, on another machine if it does not live through the test on this one.
fn oracle<'a>(stock: &'a Outcome, elsewhere: Option<&'a Outcome>) -> &'a Outcome {
    elsewhere.filter(|_| stock.killed_kernel()).unwrap_or(stock)
}

/// Compares our outcome with stock's. Where stock does not live through the test, ours gives what stock gives `elsewhere`, or
/// takes the fault that stock dies of for the program's, which gets its signal.
fn verdict(test: &Test, ours: Option<&Outcome>, stock: Option<&Outcome>, elsewhere: Option<&Outcome>) -> Verdict {
    let (Some(ours), Some(stock)) = (ours, stock) else {
        return Verdict::Different;
    };
    if fails_alone(ours, oracle(stock, elsewhere)).is_some() {
        return Verdict::Different;
    }
    if !stock.killed_kernel() {
        return compare(&test.name, test.bits, ours, stock);
    }
    match elsewhere.map(|elsewhere| compare(&test.name, test.bits, ours, elsewhere)) {
        Some(Verdict::Equal | Verdict::Better) => Verdict::Survives,
        _ if ours.ending == SEGMENTATION_FAULT => Verdict::Survives,
        other => other.unwrap_or(Verdict::Different),
    }
}

fn show_differences(rows: &[Row]) {
    for row in rows.iter().filter(|row| row.verdict == Verdict::Different) {
        if !row.difference.is_empty() {
            eprintln!("x: {}, {} bits (- stock, + ours):", row.test, row.bits);
        }
        row.difference.iter().for_each(|line| eprintln!("    {line}"));
    }
}

/// A machine in a few words.
fn name(machine: &Machine) -> String {
    format!("{} ×{}", machine.cpu, machine.smp)
}

/// The version that a bootable image of Linux says it has: the header has the place of a text that begins with it.
fn version(image: &Path) -> Result<String> {
    const HEADER: usize = 0x20e;
    const BASE: usize = 0x200;
    let data = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let text = data.get(HEADER..HEADER + 2).and_then(|at| {
        let at = BASE + usize::from(u16::from_le_bytes([at[0], at[1]]));
        let word = data.get(at..)?.split(|byte| !byte.is_ascii_graphic()).next()?;
        std::str::from_utf8(word).ok()
    });
    let text = text.with_context(|| format!("{} is no image of Linux", image.display()))?;
    Ok(format!("Linux {text}"))
}

fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "test": row.test, "bits": row.bits, "cpu": row.cpu, "smp": row.smp,
                "ours": row.ours, "stock": row.stock, "equal": row.verdict == Verdict::Equal,
                "accepted": row.verdict.is_accepted(),
            })
        })
        .collect();
    std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}
