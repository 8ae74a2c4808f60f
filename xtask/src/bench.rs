//! `./x bench`: what each crossing between user mode and the kernel costs, beside Debian's stock kernel.
//!
//! The measure is executed instructions, by QEMU's instruction counter, not time: it is the same from run to run and from
//! machine to machine, and time under emulation misleads, even in sign.

pub mod cost;
mod example;
pub mod guest;
pub mod log;
mod memory;
pub mod peers;
pub mod plot;
pub mod profile;
pub mod program;
pub mod report;
pub mod stock;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::initramfs::Initramfs;
use crate::{kernel, repository, setup};
use cost::Cost;
use guest::{Guest, Outcome, boot_to_prompt};
use report::{Count, Measurement};

/// What `./x bench` takes.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// CPU models of QEMU to measure on
    #[arg(long, value_delimiter = ',', value_name = "MODEL,...", default_value = "max,EPYC,Skylake-Server")]
    cpu: Vec<String>,
    /// Rows to measure (default: all); an unknown name lists them
    #[arg(long, value_delimiter = ',', value_name = "ROW,...")]
    rows: Vec<String>,
    /// Where the results go (default: bench/results.json when all rows are measured); a plot goes beside it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure our kernel alone
    #[arg(long)]
    no_stock: bool,
    /// Measure this kernel image instead of building one
    #[arg(long, value_name = "ELF")]
    kernel: Option<PathBuf>,
    /// Show where the instructions of one row go in our kernel, function by function
    #[arg(long, value_name = "ROW", conflicts_with_all = ["rows", "json", "no_stock"])]
    profile: Option<String>,
    /// The smallest kernel on the library beside those on other crates that bring user mode (bench/peers)
    #[arg(long, conflicts_with_all = ["rows", "json", "no_stock", "kernel", "profile"])]
    peers: bool,
}

/// Console on the serial port, no messages, and neither mitigations (ours runs without) nor layout chosen at random.
const STOCK_APPEND: &str = "console=ttyS0 quiet mitigations=off norandmaps";
const BOOTS: u32 = 5;

/// Runs the command.
pub fn bench(args: BenchArgs) -> Result<()> {
    if args.peers {
        return peers::bench(&args.cpu);
    }
    for row in args.rows.iter().chain(&args.profile) {
        if !program::ROWS.iter().any(|(name, _)| name == row) {
            let names: Vec<_> = program::ROWS.iter().map(|(name, _)| *name).collect();
            bail!("there is no row {row}; there are: {}", names.join(", "));
        }
    }
    setup::ensure(&[setup::QEMU, setup::LINKER, setup::GCC, setup::BUSYBOX])?;
    let directory = repository(".cache/bench");
    let programs = program::compile(&directory)?;
    let kernel = args.kernel.clone().map_or_else(kernel::build, Ok)?;
    let scratch = scratch(&directory)?;
    let boot = Boot { directory: scratch.path(), programs: &programs };

    if let Some(row) = &args.profile {
        let initrd = boot.initramfs(&["loop", row], None)?;
        let cpu = args.cpu.first().context("--cpu names no model")?;
        return profile::run(&boot.guest(&kernel, "", &initrd, cpu), &kernel, row);
    }

    let rows: Vec<&str> = args.rows.iter().map(String::as_str).collect();
    let floor_kernel = (args.kernel.is_none() && (rows.is_empty() || rows.contains(&"floor")))
        .then(|| kernel::Build { floor: true, ..kernel::Build::default() }.run())
        .transpose()?;
    let stock = if args.no_stock { None } else { Some(stock::fetch()?) };
    let nmi_claim = match stock.as_ref().map(|stock| &stock.nmi_claim) {
        Some(Ok(module)) => Some(module.as_path()),
        Some(Err(error)) => {
            eprintln!("x: no NMI row for the stock kernel, which has no module that claims NMIs: {error:#}");
            None
        }
        None => None,
    };

    let mut measurements = Vec::new();
    let mut status = BTreeMap::new();
    for cpu in &args.cpu {
        eprintln!("x: measuring on -cpu {cpu}");
        let initrd = boot.initramfs(&rows, nmi_claim)?;
        let mut ours = boot.guest(&kernel, "", &initrd, cpu).measure().context("in our kernel")?;
        let theirs = match &stock {
            Some(stock) => {
                let append = format!("{STOCK_APPEND} -- {}", rows.join(" "));
                boot.guest(&stock.image, &append, &initrd, cpu).measure().context("in the stock kernel")?
            }
            None => Outcome::default(),
        };
        if let Some(kernel) = &floor_kernel {
            let initrd = boot.initramfs(&["floor"], None)?;
            let floor = boot.guest(kernel, "", &initrd, cpu).measure().context("in the kernel with the floor")?;
            ours.rows.extend(floor.rows);
        }
        status.append(&mut ours.status);
        let mut of_cpu = compare(cpu, &ours, &theirs, nmi_claim.is_some());
        for measurement in &mut of_cpu {
            let initrd = boot.initramfs(&["loop", measurement.row], nmi_claim)?;
            let kernel = match (measurement.row, &floor_kernel) {
                ("floor", Some(kernel)) => kernel,
                _ => &kernel,
            };
            add_cost(&mut measurement.ours, &boot.guest(kernel, "", &initrd, cpu), measurement.row);
            if let Some(stock) = &stock {
                let append = format!("{STOCK_APPEND} -- loop {}", measurement.row);
                add_cost(&mut measurement.stock, &boot.guest(&stock.image, &append, &initrd, cpu), measurement.row);
            }
        }
        measurements.extend(of_cpu);
    }
    if rows.is_empty() {
        measurements.extend(example::measure(&args.cpu)?);
    }

    print!("{}", report::table(&measurements));
    println!(
        "\nExecuted instructions per crossing (qemu -icount shift=0), minimum over batches, less the empty loop.\n\
         Each row in one kernel and then in the other: the same program, the same machine and CPU model.\n\
         m/l/s: memory accesses, locked and serializing instructions of the kernel's part, in the mean."
    );
    if let Some(stock) = &stock {
        println!("stock: Linux {} with mitigations=off, as ours runs without page-table isolation.", stock.release);
    }
    print_sizes(&kernel, &status)?;
    print_boot_times(&boot, &kernel, stock.as_ref())?;

    let json = match (&args.json, rows.is_empty() && stock.is_some()) {
        (Some(path), _) => path.clone(),
        (None, true) => repository("bench/results.json"),
        (None, false) => return Ok(()),
    };
    let objects: Vec<_> = measurements.iter().map(Measurement::json).collect();
    fs::write(&json, serde_json::to_string_pretty(&objects)? + "\n")
        .with_context(|| format!("writing {}", json.display()))?;
    fs::write(json.with_extension("svg"), plot::svg(&measurements))?;
    println!("wrote {} and the plot {}", json.display(), json.with_extension("svg").display());
    Ok(())
}

/// Enough for several rounds of the longest row.
const COST_LOG_BYTES: u64 = 8 << 20;

/// Looks at the instructions of a row that has a number. Not at those of a tick: millions of the program's are between two.
pub fn add_cost(count: &mut Count, guest: &Guest, row: &str) {
    if count.instructions.is_some() && row != "timer-user" {
        match log::record(guest, row, COST_LOG_BYTES) {
            Ok(log) => count.cost = Some(Cost::per_round(&log, row)),
            // The count of instructions stays.
            Err(error) => eprintln!("x: no cost of {row}: {error:#}"),
        }
    }
}

/// A folder for what one run needs: another bench at the same time has its own.
pub fn scratch(directory: &Path) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(directory);
    folder.with_context(|| format!("cannot make a folder in {}", directory.display()))
}

/// What every boot of one run has in common.
struct Boot<'a> {
    directory: &'a Path,
    programs: &'a program::Programs,
}

impl Boot<'_> {
    fn initramfs(&self, arguments: &[&str], nmi_claim: Option<&Path>) -> Result<PathBuf> {
        self.write(&program::initramfs(self.programs, arguments, nmi_claim)?)
    }

    fn write(&self, root: &Initramfs) -> Result<PathBuf> {
        let path = self.directory.join("initramfs.cpio");
        root.write(&path)?;
        Ok(path)
    }

    fn guest<'a>(&'a self, kernel: &'a Path, append: &'a str, initrd: &'a Path, cpu: &'a str) -> Guest<'a> {
        Guest { kernel, append, initrd, cpu, directory: self.directory }
    }
}

/// Puts the two outcomes side by side; says why where one has no number.
fn compare(cpu: &str, ours: &Outcome, stock: &Outcome, stock_claims_nmi: bool) -> Vec<Measurement> {
    let mut out = Vec::new();
    for (row, title) in program::ROWS {
        let (our_line, stock_line) = (ours.rows.get(row), stock.rows.get(row));
        if let Some(why) = our_line.and_then(|line| line.missing.as_ref()) {
            eprintln!("x: our kernel has no number for {title}: {why}");
        }
        let Some(our_line) = our_line else { continue };
        let our_count = our_line.instructions;
        let stock_count = stock_line
            .and_then(|line| line.instructions)
            // Without the module the row would measure how Linux prints its message about an unclaimed NMI.
            .filter(|_| row != "nmi-user" || stock_claims_nmi);
        let [ours, stock] = [our_count, stock_count].map(|instructions| Count { instructions, cost: None });
        out.push(Measurement::new(row, "portcullis-kernel", cpu, "off", ours, stock));
    }
    out
}

fn print_sizes(kernel: &Path, status: &BTreeMap<String, String>) -> Result<()> {
    let image = memory::image(kernel)?;
    println!(
        "\nkernel image: {} KiB loaded, {} KiB with zeros (at most 4096)",
        image.loaded >> 10,
        image.occupied >> 10
    );
    for (key, what) in [
        ("percpu_bytes", "state of the library per CPU, without tables and stacks (at most 128 bytes)"),
        ("pertask_bytes", "state of the library per task (at most 16 bytes)"),
    ] {
        let value = status.get(key).map_or("not told by the kernel", String::as_str);
        println!("{what}: {value}");
    }
    Ok(())
}

/// Boots both kernels to the prompt of busybox's shell, without instruction counting.
fn print_boot_times(boot: &Boot, kernel: &Path, stock: Option<&stock::Stock>) -> Result<()> {
    let initrd = boot.write(&Initramfs::busybox()?)?;
    let ours = boot_to_prompt(&boot.guest(kernel, "", &initrd, "max"), BOOTS)?;
    print!("boot to prompt: {:.2} s (at most 0.6)", ours.as_secs_f64());
    if let Some(stock) = stock {
        let append = format!("{STOCK_APPEND} rdinit=/bin/sh");
        // On a busy host the stock kernel may fail to find the speed of its clock, and stop; that is no reason to fail here.
        let stock = boot.guest(&stock.image, &append, &initrd, "max");
        match (0..BOOTS).filter_map(|_| boot_to_prompt(&stock, 1).ok()).min() {
            Some(theirs) => print!(", stock {:.2} s", theirs.as_secs_f64()),
            None => print!(", stock: none of its boots came that far"),
        }
    }
    println!("; wall clock from starting QEMU, least of {BOOTS}");
    Ok(())
}
