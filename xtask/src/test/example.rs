//! Suite `example`: the kernels of `examples/minimal` build, boot, and say what they should.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::report::Report;
use crate::console::Capture;
use crate::example;
use crate::qemu::{Boot, Console, Ending, Machine};

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
    let images = example::build(true)?;
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

fn boots(kernel: &Path, cpu: &str) -> Result<()> {
    let machine = Machine { cpu: cpu.to_owned(), ..Machine::default() };
    let mut boot = Boot::new(machine, kernel);
    boot.timeout = Some(LIMIT);
    let console = Capture::default();
    let outcome = boot.run(Console::capture(&console))?;
    let printed = console.text();
    ensure!(printed == OUTPUT, "it printed something else, and ended with {:?}:\n{printed}", outcome.ending);
    let ended_well = matches!(outcome.ending, Ending::Quit(status) if status.code() == Some(STATUS));
    ensure!(ended_well, "it ended with {:?} and not exit status {STATUS}", outcome.ending);
    Ok(())
}
