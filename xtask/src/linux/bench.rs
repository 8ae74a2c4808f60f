//! `./x linux bench`: what each crossing costs in Linux with Portcullis, beside Linux's own code, linked in the same tree.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::build::{Tree, Variant};
use super::config::{Arch, Config};
use super::source::SourceArgs;
use crate::bench::guest::{Guest, Outcome};
use crate::bench::report::{self, Count, LINUX, Measurement};
use crate::bench::{add_cost, plot, profile, program};
use crate::initramfs::Initramfs;
use crate::{repository, setup};

/// The rows, in their order in the tables. Timer and NMI are Linux's own code for the most part.
const ROWS: [&str; 13] = [
    "getppid",
    "unknown-syscall",
    "int80",
    "vdso32",
    "seccomp",
    "minor-fault-read",
    "minor-fault-write",
    "kernel-fault",
    "yield-switch",
    "ud-signal",
    "fault-signal",
    "single-step",
    "ptrace-syscall",
];

/// What both kernels are told: console on the serial port, no messages, no layout chosen at random. Mitigations stay as
/// the CPU model makes Linux choose them.
const APPEND: &str = "console=ttyS0 quiet norandmaps panic=-1";

/// Counts the instructions of each crossing, stock and ours, in one run.
#[derive(clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    from: SourceArgs,
    /// The CPU architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// The configuration
    #[arg(long, value_enum, default_value_t = Config::Small)]
    config: Config,
    /// CPU models of QEMU to measure on
    #[arg(long, value_delimiter = ',', value_name = "MODEL,...", default_value = "max,EPYC,Skylake-Server")]
    cpu: Vec<String>,
    /// Rows to measure (default: all); an unknown name lists them
    #[arg(long, value_delimiter = ',', value_name = "ROW,...")]
    rows: Vec<String>,
    /// Where the results go (default: bench/linux.json for all rows of x86_64 small); what it has of other versions stays
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure stock alone
    #[arg(long)]
    stock_only: bool,
    /// Show where the instructions of one row go in both kernels, function by function
    #[arg(long, value_name = "ROW", conflicts_with_all = ["rows", "json", "markdown"])]
    profile: Option<String>,
    /// Print a table in Markdown, for docs/linux.md
    #[arg(long)]
    markdown: bool,
}

/// Runs the command.
pub fn bench(args: BenchArgs) -> Result<()> {
    for row in args.rows.iter().chain(&args.profile) {
        if !ROWS.contains(&row.as_str()) {
            bail!("there is no row {row}; there are: {}", ROWS.join(", "));
        }
    }
    setup::ensure(&[setup::QEMU])?;
    let directory = repository(".cache/bench");
    let programs = program::compile(&directory)?;
    let tree = Tree::new(&args.from, args.arch, args.config)?;
    let stock = tree.image(Variant::Stock)?;
    let ours = match args.stock_only {
        true => None,
        false => Some(tree.image(Variant::Portcullis)?),
    };

    let mut root = Initramfs::default();
    match args.arch {
        Arch::X86_64 => {
            root.copy("init", &programs.crossing)?;
            root.copy("crossing32", &programs.crossing32)?;
        }
        Arch::I386 => {
            root.copy("init", &programs.crossing32)?;
        }
    }
    let scratch = crate::bench::scratch(&directory)?;
    let directory = scratch.path();
    let initrd = directory.join("linux.cpio");
    root.write(&initrd)?;
    if let Some(row) = &args.profile {
        ensure!(args.arch == Arch::X86_64, "profiles are of 64-bit kernels only");
        let cpu = args.cpu.first().context("--cpu names no model")?;
        let images = [(Variant::Stock, Some(&stock)), (Variant::Portcullis, ours.as_ref())];
        for (variant, image) in images {
            let Some(image) = image else { continue };
            println!("\n== {variant}, -cpu {cpu}");
            let guest =
                Guest { kernel: image, append: &format!("{APPEND} -- loop {row}"), initrd: &initrd, cpu, directory };
            profile::run(&guest, &tree.elf(variant), row)?;
        }
        return Ok(());
    }
    let rows: Vec<&str> =
        ROWS.into_iter().filter(|row| args.rows.is_empty() || args.rows.iter().any(|wanted| wanted == row)).collect();

    let mut measurements = Vec::new();
    for cpu in &args.cpu {
        eprintln!("x: measuring on -cpu {cpu}");
        let measure = |image: &Path, variant: Variant| -> Result<Outcome> {
            let append = format!("{APPEND} -- {}", rows.join(" "));
            let guest = Guest { kernel: image, append: &append, initrd: &initrd, cpu, directory };
            guest.measure().with_context(|| format!("in Linux, {variant}"))
        };
        let counted = measure(&stock, Variant::Stock)?;
        let our_counts =
            ours.as_ref().map(|image| measure(image, Variant::Portcullis)).transpose()?.unwrap_or_default();
        for row in &rows {
            let line = counted.rows.get(*row);
            if let Some(why) = line.and_then(|line| line.missing.as_ref()) {
                eprintln!("x: no number for {row}: {why}");
            }
            let count = |outcome: &Outcome, image: Option<&PathBuf>| -> Count {
                let instructions = outcome.rows.get(*row).and_then(|line| line.instructions);
                let mut count = Count { instructions, cost: None };
                // The decoder of what QEMU logs is for 64-bit code.
                if let (Some(image), Arch::X86_64) = (image, args.arch) {
                    let append = format!("{APPEND} -- loop {row}");
                    let guest = Guest { kernel: image, append: &append, initrd: &initrd, cpu, directory };
                    add_cost(&mut count, &guest, row);
                }
                count
            };
            let (our_count, stock_count) = (count(&our_counts, ours.as_ref()), count(&counted, Some(&stock)));
            if our_count.instructions.or(stock_count.instructions).is_some() {
                measurements.push(Measurement::new(row, LINUX, cpu, "auto", our_count, stock_count));
            }
        }
    }

    if args.markdown {
        print!("{}", markdown(&measurements, &args.cpu));
    } else {
        print!("{}", report::table(&measurements));
        println!(
            "\nExecuted instructions per crossing (qemu -icount shift=0), minimum over batches, less the empty loop.\n\
             Linux {} {} {}, both variants linked in one build tree; mitigations as Linux chooses them for the CPU model.",
            tree.version(),
            args.arch,
            args.config
        );
    }
    let usual = args.rows.is_empty() && !args.stock_only && (args.arch, args.config) == (Arch::X86_64, Config::Small);
    let (json, svg) = match &args.json {
        Some(path) => (path.clone(), path.with_extension("svg")),
        None if usual => (repository("bench/linux.json"), repository(format!("bench/linux-{}.svg", tree.version()))),
        None => return Ok(()),
    };
    let version = tree.version().to_string();
    // The figures of other versions stay.
    let mut objects = match fs::read_to_string(&json) {
        Ok(old) => serde_json::from_str::<Vec<Value>>(&old).with_context(|| format!("reading {}", json.display()))?,
        Err(_) => Vec::new(),
    };
    objects.retain(|object| object["linux"] != version);
    objects.extend(measurements.iter().map(|measurement| {
        let mut object = measurement.json();
        object["linux"] = version.clone().into();
        object
    }));
    fs::write(&json, serde_json::to_string_pretty(&objects)? + "\n")
        .with_context(|| format!("writing {}", json.display()))?;
    fs::write(&svg, plot::svg(&measurements))?;
    eprintln!("x: wrote {} and {}", json.display(), svg.display());
    Ok(())
}

/// The table of the documentation: a line per row, three columns per CPU model.
fn markdown(measurements: &[Measurement], cpus: &[String]) -> String {
    let mut out = String::from("| operation |");
    for cpu in cpus {
        let _ = write!(out, " {cpu}: stock | ours | ratio |");
    }
    out += &format!("\n| --- |{}\n", " --- | --- | --- |".repeat(cpus.len()));
    for row in ROWS {
        let of_row = |cpu: &String| measurements.iter().find(|m| m.row == row && m.cpu == *cpu);
        let Some(any) = cpus.iter().find_map(of_row) else {
            continue;
        };
        let _ = write!(out, "| {} |", any.title());
        for cpu in cpus {
            let number = |value: Option<u64>| value.map_or("–".to_owned(), |n| n.to_string());
            let (stock, ours, ratio) =
                of_row(cpu).map_or((None, None, None), |m| (m.stock.instructions, m.ours.instructions, m.ratio));
            let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
            let _ = write!(out, " {} | {} | {ratio} |", number(stock), number(ours));
        }
        out.push('\n');
    }
    out
}
