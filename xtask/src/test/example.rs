//! Suite `example`: the kernels of `examples/minimal` build, boot, and say what they should.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::report::Report;
use crate::console::Capture;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::repository;
use crate::toolchain::{TARGET, Toolchain};

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A CPU with all that the doors can use, and one with next to nothing of it.
const CPUS: &[&str] = &["max", "qemu64"];

/// All that each prints.
const OUTPUT: &str = "\
kernel: the doors are open
user: hello
kernel: ud2 in user mode, stepping over it
user: still here
kernel: the program exits with status 17
kernel: schedule was called 1 time(s)
";

/// QEMU's exit status after the kernel wrote 0x10 to the exit port.
const STATUS: i32 = 33;

/// Runs the suite.
pub fn run(report: &mut Report) -> Result<()> {
    let images = build()?;
    for name in KERNELS {
        for &cpu in CPUS {
            let outcome = boots(&images.join(format!("portcullis-{name}")), cpu).map_err(|error| format!("{error:#}"));
            report.outcome(&format!("example/{name} on {cpu}"), outcome);
        }
    }
    Ok(())
}

/// The two: with hooks, and as a loop.
const KERNELS: [&str; 2] = ["minimal", "loop"];

/// Builds them, and gives the folder of their images.
fn build() -> Result<PathBuf> {
    let directory = repository("examples/minimal");
    let mut cargo = Toolchain::install()?.cargo("build");
    cargo
        .args(["--release", "--locked", "--target-dir"])
        .arg(directory.join("target"))
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let shown = format!("{cargo:?}");
    let status = cargo.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("it could not be built ({status}). The errors stand above; tried, in examples/minimal/: {shown}");
    }
    Ok(directory.join("target").join(TARGET).join("release"))
}

fn boots(kernel: &Path, cpu: &str) -> Result<()> {
    let machine = Machine { cpu: cpu.to_owned(), ..Machine::default() };
    let mut boot = Boot::new(machine, kernel);
    boot.timeout = Some(LIMIT);
    let outcome = boot.run(Console::capture(&Capture::default()))?;
    ensure!(outcome.log == OUTPUT, "it printed something else, and ended with {:?}:\n{}", outcome.ending, outcome.log);
    let ended_well = matches!(outcome.ending, Ending::Quit(status) if status.code() == Some(STATUS));
    ensure!(ended_well, "it ended with {:?} and not exit status {STATUS}", outcome.ending);
    Ok(())
}
