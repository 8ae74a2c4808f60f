//! One boot of one kernel with the generator as its first program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::initramfs::Initramfs;
use crate::qemu::{Ending, Machine};
use crate::run::log_tail;
use crate::selftests::Image;
use crate::{is_current, progress, repository};

/// What a kernel is to run: a line of the program's `/boundary.jobs`.
#[derive(Clone, Debug)]
pub struct Job {
    /// The seed of all scripts.
    pub seed: u64,
    /// The first script.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many have one hash together.
    pub batch: u64,
    /// How many run at once.
    pub workers: u32,
    /// The steps that are left out.
    pub mask: u64,
    /// Whether it is compared with a Linux of which some things are not tried: `is_old` in tests/differential/calls.h.
    pub old: bool,
    /// Whether each observable is printed.
    pub log: bool,
}

impl Job {
    fn line(&self) -> String {
        let Job { seed, first, count, batch, workers, mask, old, log } = self;
        format!("{seed} {first} {count} {batch} {workers} {mask} {} {}\n", u32::from(*old), u32::from(*log))
    }
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The job's number.
    pub job: usize,
    /// The first script.
    pub first: u64,
    /// Everything that was seen.
    pub hash: String,
    /// How often the boundary was crossed.
    pub crossings: u64,
    /// How many signals were handled.
    pub signals: u64,
}

impl Batch {
    fn parse(line: &str) -> Option<Batch> {
        let mut words = line.strip_prefix("= ")?.split(' ');
        Some(Batch {
            job: words.next()?.parse().ok()?,
            first: words.next()?.parse().ok()?,
            hash: words.next()?.to_owned(),
            crossings: words.next()?.parse().ok()?,
            signals: words.next()?.trim_end().parse().ok()?,
        })
    }
}

/// What one boot has shown.
#[derive(Default)]
pub struct Seen {
    /// The batches, as they came.
    pub batches: Vec<Batch>,
    /// The other lines: what a log has.
    pub lines: Vec<String>,
    /// Why it ended before its time, with the end of the kernel's log.
    pub died: Option<String>,
}

/// How long nothing may be printed: a batch takes seconds, on a busy host a minute.
const SILENCE: Duration = Duration::from_secs(180);

/// Boots `image`, and runs the jobs in it.
pub fn run(image: &Image, machine: &Machine, program: &Path, jobs: &[Job]) -> Result<Seen> {
    let mut root = Initramfs::busybox()?;
    root.copy("tests/runner", program)?;
    root.file("boundary.jobs", 0o644, jobs.iter().map(Job::line).collect::<String>());
    let (_scratch, mut boot) = image.boot(machine, root)?;
    boot.silence = Some(SILENCE);
    let mut seen = Seen::default();
    let mut done = false;
    let outcome = boot.run_lines(|line| {
        let line = line.trim_end();
        done |= line == "done";
        match Batch::parse(line) {
            Some(batch) => seen.batches.push(batch),
            None => seen.lines.push(line.to_owned()),
        }
    })?;
    if !done {
        let how = match outcome.ending {
            Ending::TimedOut => "hung".to_owned(),
            ending => format!("{ending:?}"),
        };
        let last = seen.lines[seen.lines.len().saturating_sub(80)..].join("\n");
        seen.died = Some(format!(
            "{how} after the batch {batch:?}\n{last}\n{}",
            log_tail(&outcome.log),
            batch = seen.batches.last()
        ));
    }
    Ok(seen)
}

/// The width of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Width {
    /// x86-64
    #[value(name = "64")]
    Bits64,
    /// i386
    #[value(name = "32")]
    Bits32,
}

impl Width {
    /// Of an address, in bits.
    pub fn bits(self) -> u32 {
        match self {
            Width::Bits64 => 64,
            Width::Bits32 => 32,
        }
    }
}

/// Compiles the program, unless that was done since its source changed.
pub fn compile(width: Width) -> Result<PathBuf> {
    let sources = repository("tests/differential");
    let mut read = Vec::new();
    for entry in std::fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
        read.push(entry?.path());
    }
    let directory = repository("target/guest");
    std::fs::create_dir_all(&directory)?;
    let program = directory.join(format!("boundary{}", width.bits()));
    if is_current(&program, &read) {
        return Ok(program);
    }
    let mut gcc = Command::new("gcc");
    // The headers of the kernel are those of both widths.
    gcc.arg(format!("-m{}", width.bits())).args(["-idirafter", "/usr/include/x86_64-linux-gnu"]);
    gcc.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding", "-no-pie"])
        .args(["-fno-pic", "-fno-stack-protector", "-mgeneral-regs-only", "-fcf-protection=none"])
        .args(["-fno-asynchronous-unwind-tables", "-Wl,-z,noexecstack", "-Wl,--build-id=none", "-o"])
        .arg(&program)
        .arg(sources.join("boundary.c"));
    progress::step(&format!("compiling tests/differential, {} bits", width.bits()), &mut gcc, progress::LONG)?;
    Ok(program)
}
