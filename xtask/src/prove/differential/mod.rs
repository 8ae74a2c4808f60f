//! `./x prove differential`: Linux as the witness. Random programs in the reference kernel and in stock Linux, on the same
//! emulated machine; everything that a program can see is compared. docs/differential.md says what that is.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `guest` | the program (tests/differential), and one boot with it |
//! | `shrink` | from a script that differs to a minimal one |

mod guest;
mod shrink;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::linux::build::Variant;
use crate::linux::config::{Arch, Config};
use crate::linux::source::{SourceArgs, Version};
use crate::qemu::{Machine, MachineType};
use crate::selftests::Image;
use crate::{bench, kernel, linux, setup};
pub use guest::Width;
use guest::{Batch, Job, Seen};

/// Random programs in the reference kernel and in stock Linux, every observable compared.
///
/// A difference is shrunk to the fewest steps that still show it, and printed. The same seed gives the same programs.
#[derive(clap::Args)]
pub struct DifferentialArgs {
    /// The seed of the programs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many crossings at least
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    crossings: u64,
    /// The width of the programs
    #[arg(long, value_name = "BITS", value_enum, default_value = "64")]
    width: Width,
    /// The Linux to compare with, built as `./x linux build --stock` does; without it, Debian 12's kernel as it is shipped
    #[arg(long, value_name = "VERSION", value_enum)]
    linux: Option<Version>,
    /// The Linux to compare with: this image
    #[arg(long, value_name = "IMAGE", conflicts_with = "linux")]
    stock: Option<PathBuf>,
    /// Test this image of the reference kernel instead of building one
    #[arg(long, value_name = "ELF")]
    kernel: Option<PathBuf>,
    /// CPU model, as QEMU takes it
    #[arg(long, value_name = "MODEL", default_value = CPU)]
    cpu: String,
    /// Number of CPUs; each runs a script
    #[arg(long, value_name = "N", default_value_t = 1)]
    smp: u32,
    /// Only this script
    #[arg(long, value_name = "INDEX")]
    script: Option<u64>,
    /// Steps of it that are left out, as a number whose bits they are
    #[arg(long, value_name = "BITS", default_value_t = 0, requires = "script")]
    mask: u64,
    /// Print everything that it saw, in both kernels
    #[arg(long, requires = "script")]
    log: bool,
    /// Say which batches differ, and at the end which of them do so each time, and make none small
    #[arg(long)]
    no_shrink: bool,
    /// The first script
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    first: u64,
    /// How many scripts have one hash
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: u64,
    /// How many differences are looked into before it ends
    #[arg(long, value_name = "N", default_value_t = 5)]
    differences: usize,
}

/// How many scripts one boot runs.
const SCRIPTS: u64 = 2048;

/// The two kernels, and the machine that both get.
pub struct Pair {
    ours: Image,
    stock: Image,
    machine: Machine,
    program: PathBuf,
    old: bool,
    shrinks: bool,
}

/// What came of a comparison.
#[derive(Default)]
pub struct Totals {
    /// How many scripts ran.
    pub scripts: u64,
    /// How often the boundary was crossed, in each kernel.
    pub crossings: u64,
    /// How many signals were handled.
    pub signals: u64,
    /// The differences, in words.
    pub differences: Vec<String>,
    /// Those that do not come again each time: interrupts came at other places.
    pub by_chance: Vec<String>,
    /// The scripts that Linux did not survive: its kernel died under the emulator.
    pub fatal: Vec<u64>,
}

impl Pair {
    fn new(ours: &Path, stock: &Stock, machine: Machine, width: Width) -> Result<Pair> {
        let mut image = Image::linux(&stock.image);
        // On one CPU Linux writes a DS prefix over each LOCK, and the emulator adds the base of DS there, as no CPU does in
        // 64-bit code.
        image.append.push_str(" noreplace-smp");
        // A busy host does not run the emulator in time for Linux's look at its timer.
        image.append.push_str(" no_timer_check");
        let (ours, program) = (Image::reference(ours), guest::compile(width)?);
        Ok(Pair { ours, stock: image, machine, program, old: stock.old, shrinks: true })
    }

    /// The jobs in both, at once: the reference kernel's, then Linux's.
    fn run(&self, jobs: &[Job]) -> Result<[Seen; 2]> {
        thread::scope(|scope| {
            let ours = scope.spawn(|| guest::run(&self.ours, &self.machine, &self.program, jobs));
            let stock = self.run_linux(jobs);
            let ours = ours.join().expect("a boot does not panic");
            Ok([ours?, stock.context("running Linux")?])
        })
    }

    /// The jobs in Linux, which has another try where it does not come as far as the first script.
    fn run_linux(&self, jobs: &[Job]) -> Result<Seen> {
        const ATTEMPTS: u32 = 3;
        let mut attempt = 1;
        loop {
            let seen = guest::run(&self.stock, &self.machine, &self.program, jobs)?;
            match &seen.died {
                Some(died) if attempt < ATTEMPTS && seen.batches.is_empty() => eprintln!("x: Linux again: {died}"),
                _ => return Ok(seen),
            }
            attempt += 1;
        }
    }

    /// Runs scripts until the boundary was crossed so often, or so many differences were found.
    fn compare(&self, seed: u64, first: u64, crossings: u64, batch_size: u64, differences: usize) -> Result<Totals> {
        let started = Instant::now();
        let mut totals = Totals::default();
        let mut next = first;
        let mut differ = Vec::new();
        while totals.crossings < crossings && totals.differences.len() + differ.len() < differences {
            // A script has a hundred and some.
            let count = ((crossings - totals.crossings) / 100).clamp(batch_size, SCRIPTS).next_multiple_of(batch_size);
            let job = Job {
                seed,
                first: next,
                count,
                batch: batch_size,
                workers: self.machine.smp,
                mask: 0,
                old: self.old,
                log: false,
            };
            let [ours, stock] = self.run(std::slice::from_ref(&job))?;
            let mut end = next + count;
            if let Some(died) = &stock.died {
                let fatal = stock.batches.iter().map(|batch| batch.first + batch_size).max().unwrap_or(next);
                eprintln!("x: Linux did not survive the scripts from {fatal}: {died}");
                totals.fatal.push(fatal);
                if totals.crossings == 0 && totals.fatal.len() > 3 {
                    bail!("Linux survives no script");
                }
                end = fatal + batch_size;
            }
            if let Some(died) = &ours.died {
                let fatal = ours.batches.iter().map(|batch| batch.first + batch_size).max().unwrap_or(next);
                eprintln!("x: the reference kernel did not survive the scripts from {fatal}: {died}");
                end = end.min(fatal + batch_size);
            }
            let ours_by_script: BTreeMap<u64, &Batch> = ours.batches.iter().map(|batch| (batch.first, batch)).collect();
            for batch in stock.batches.iter().filter(|batch| batch.first < end) {
                totals.crossings += batch.crossings;
                totals.signals += batch.signals;
                if ours_by_script.get(&batch.first) == Some(&batch) || totals.differences.len() >= differences {
                    continue;
                }
                if !self.shrinks {
                    eprintln!("seed {seed}, scripts from {}", batch.first);
                    differ.push(Job { first: batch.first, count: batch_size, workers: 1, ..job.clone() });
                    continue;
                }
                let left = differences - totals.differences.len();
                let found = self.look_into(
                    &Job { first: batch.first, count: batch_size, batch: 1, workers: 1, ..job.clone() },
                    left,
                )?;
                if found.is_empty() {
                    let died = ours.died.as_deref();
                    let what = died.unwrap_or("a difference that does not come again");
                    let text = format!("seed {seed}, scripts from {}: {what}", batch.first);
                    eprintln!("{text}");
                    if died.is_some() { &mut totals.differences } else { &mut totals.by_chance }.push(text);
                }
                totals.differences.extend(found);
            }
            totals.scripts += end - next;
            next = end;
            eprintln!(
                "x: seed {seed}: {} scripts, {} crossings, {} signals, {} differences, {} s",
                totals.scripts,
                totals.crossings,
                totals.signals,
                totals.differences.len() + differ.len(),
                started.elapsed().as_secs()
            );
        }
        let each_time: BTreeSet<u64> = self.differ_each_time(differ.clone())?.iter().map(|job| job.first).collect();
        for Job { first, .. } in differ {
            let comes_again = each_time.contains(&first);
            let text = format!("seed {seed}, scripts from {first}{}", if comes_again { ": each time" } else { "" });
            if comes_again {
                eprintln!("{text}");
                totals.differences.push(text);
            } else {
                totals.by_chance.push(text);
            }
        }
        Ok(totals)
    }

    /// Which jobs leave a difference.
    fn differ(&self, jobs: &[Job]) -> Result<Vec<bool>> {
        /// The program reads 64 KiB of jobs.
        const JOBS: usize = 1000;
        let of = |seen: &Seen, job| seen.batches.iter().find(|batch| batch.job == job).cloned();
        let mut differ = Vec::new();
        for jobs in jobs.chunks(JOBS) {
            let [ours, stock] = self.run(jobs)?;
            differ.extend((0..jobs.len()).map(|job| of(&ours, job) != of(&stock, job)));
        }
        Ok(differ)
    }

    /// Those that do so each time.
    fn differ_each_time(&self, mut jobs: Vec<Job>) -> Result<Vec<Job>> {
        /// So often chance does not come in a row.
        const TIMES: usize = 5;
        for _ in 0..TIMES {
            if jobs.is_empty() {
                break;
            }
            let differ = self.differ(&jobs)?;
            jobs = jobs.into_iter().zip(differ).filter_map(|(job, differs)| differs.then_some(job)).collect();
        }
        Ok(jobs)
    }

    /// Which scripts of a batch differ each time, each made small.
    fn look_into(&self, job: &Job, limit: usize) -> Result<Vec<String>> {
        let scripts = (job.first..job.first + job.count).map(|first| Job { first, count: 1, ..job.clone() }).collect();
        let mut found = Vec::new();
        for script in self.differ_each_time(scripts)?.iter().take(limit) {
            let text = self.describe(script)?;
            eprintln!("{text}");
            found.push(text);
        }
        Ok(found)
    }

    fn describe(&self, script: &Job) -> Result<String> {
        const CONTEXT: usize = 70;
        let minimal = shrink::shrink(self, script)?;
        let mut text = format!("seed {}, script {}, without the steps {:#x}:", script.seed, script.first, minimal.mask);
        for line in &minimal.before[minimal.before.len().saturating_sub(CONTEXT)..] {
            text.push_str(&format!("\n    {line}"));
        }
        for (name, lines) in ["ours ", "Linux"].into_iter().zip(&minimal.lines) {
            lines.iter().for_each(|line| text.push_str(&format!("\n  {name} {line}")));
        }
        Ok(text)
    }
}

/// Compares a kernel with Debian's Linux, on one CPU: what the suite `differential` does.
pub fn compared(kernel: &Path, width: Width, seed: u64, crossings: u64) -> Result<Totals> {
    const DIFFERENCES: usize = 3;
    Pair::new(kernel, &Stock::shipped()?, machine(CPU, 1), width)?.compare(seed, 0, crossings, 16, DIFFERENCES)
}

/// A Linux to compare with.
struct Stock {
    image: PathBuf,
    /// See [`Job`].
    old: bool,
}

impl Stock {
    /// Debian 12's kernel.
    fn shipped() -> Result<Stock> {
        Ok(Stock { image: bench::stock::image()?, old: true })
    }

    fn chosen(args: &DifferentialArgs) -> Result<Stock> {
        match (&args.stock, args.linux) {
            (Some(image), _) => Ok(Stock { image: image.clone(), old: false }),
            (None, Some(version)) => {
                let from = SourceArgs::debian(version);
                let image = linux::build::image(&from, Arch::X86_64, Config::Small, Variant::Stock)?;
                Ok(Stock { image, old: version == Version::V6_1 })
            }
            (None, None) => Stock::shipped(),
        }
    }
}

/// The machine that both kernels get. Linux dies with SMAP under the emulator, and the reference kernel has no MPX.
const CPU: &str = "max,smap=off,mpx=off";

fn machine(cpu: &str, smp: u32) -> Machine {
    let memory = Some("512M".to_owned());
    Machine { cpu: cpu.to_owned(), smp, machine: MachineType::Q35, memory, ..Machine::default() }
}

/// Runs the command.
pub fn differential(args: &DifferentialArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX, setup::LINKER, setup::GCC])?;
    let ours = match &args.kernel {
        Some(path) => path.clone(),
        None => kernel::build_checked(false)?,
    };
    let mut pair = Pair::new(&ours, &Stock::chosen(args)?, machine(&args.cpu, args.smp), args.width)?;
    pair.shrinks = !args.no_shrink;
    if let Some(first) = args.script {
        let job = Job {
            seed: args.seed,
            first,
            count: 1,
            batch: 1,
            workers: 1,
            mask: args.mask,
            old: pair.old,
            log: args.log,
        };
        if args.log {
            for (name, seen) in ["ours", "Linux"].into_iter().zip(pair.run(&[job])?) {
                println!("{name}:");
                seen.lines.iter().for_each(|line| println!("{line}"));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let found = pair.look_into(&job, 1)?;
        return Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let totals = pair.compare(args.seed, args.first, args.crossings, args.batch, args.differences)?;
    if totals.crossings == 0 {
        bail!("no script ran");
    }
    println!(
        "seed {}: {} scripts, {} crossings, {} signals, {} differences, and {} that did not come again; {} not survived by Linux",
        args.seed,
        totals.scripts,
        totals.crossings,
        totals.signals,
        totals.differences.len(),
        totals.by_chance.len(),
        totals.fatal.len()
    );
    Ok(if totals.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
