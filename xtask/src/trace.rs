//! `./x trace`: a timeline of every crossing of a program, as text, as a page of HTML, and as a file that ui.perfetto.dev opens.
//!
//! | you want to change … | look in … |
//! | --- | --- |
//! | what is recorded | `Kernel::trace` in the library, `kernel/src/work/trace_points.rs` |
//! | how the kernel's records are read | [`record`] |
//! | which begins and ends belong together, and what they are called | [`spans`] |
//! | the text | [`text`] |
//! | which events make a crossing, and in which state each moment of it is | [`crossings`] |
//! | the page | [`page`], `trace/page.html` |
//! | the file | [`perfetto`] |

mod crossings;
mod page;
mod perfetto;
mod record;
mod spans;
mod text;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::kernel::Build;
use crate::qemu::Ending;
use crate::repository;
use crate::run::{self, RunArgs};
use record::Recording;

/// Runs a program in the reference kernel, and shows every crossing between it and the kernel.
///
/// The program runs as with `./x run`, in a kernel that records what the library tells it. Its output is passed through; the
/// timeline follows on standard error, or goes to the file that -o names. A page of HTML shows it in a browser, and a file has it
/// for ui.perfetto.dev ("Open trace file").
#[derive(clap::Args)]
pub struct TraceArgs {
    /// Write the text here, not to standard error
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the file for ui.perfetto.dev goes [default: target/trace.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the page of HTML goes [default: target/trace.html]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub fn trace(args: TraceArgs) -> Result<ExitCode> {
    let program = run::prepare(&args.run)?;
    let kernel = match &args.run.kernel {
        Some(image) => image.clone(),
        None => Build { cfg: vec!["portcullis_trace".to_owned()], ..Build::default() }.run()?,
    };
    let (outcome, interactive) = run::boot(&args.run, program, &kernel)?;
    let recording = Recording::read(&outcome.log)?;
    if recording.records.is_empty() && matches!(outcome.ending, Ending::Exit(_)) {
        anyhow::bail!(
            "{} recorded nothing; with --kernel it must be one that was built with --cfg portcullis_trace",
            kernel.display()
        );
    }
    let spans = spans::of(&recording);

    let mut text: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(create(path)?),
        None => Box::new(BufWriter::new(io::stderr())),
    };
    text::write(&recording, &spans, &mut text).context("cannot write the timeline")?;
    text.flush().context("cannot write the timeline")?;

    let json = args.json.unwrap_or_else(|| repository("target/trace.json"));
    let mut file = create(&json)?;
    perfetto::write(&recording, &spans, &mut file)
        .and_then(|()| Ok(file.flush()?))
        .with_context(|| format!("cannot write {}", json.display()))?;
    let html = args.html.unwrap_or_else(|| repository("target/trace.html"));
    let mut file = create(&html)?;
    page::write(&args.run.shown(), &recording, &crossings::of(&recording), &mut file)
        .and_then(|()| Ok(file.flush()?))
        .with_context(|| format!("cannot write {}", html.display()))?;
    for (cpu, lost) in recording.lost.iter().filter(|(_, lost)| **lost > 0) {
        eprintln!("x: CPU {cpu} forgot its first {lost} events: it keeps the last ones only");
    }
    eprintln!(
        "x: {} events; {} opens in a browser, {} in https://ui.perfetto.dev",
        recording.records.len(),
        html.display(),
        json.display()
    );
    run::report(&outcome, interactive, args.run.verbose, args.run.machine.accel)
}

fn create(path: &PathBuf) -> Result<BufWriter<File>> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(BufWriter::new(file))
}
