//! Suite `stress`: programs that are made to bring a kernel down, in the reference kernel on two CPUs: no panic, no hang, no broken
//! invariant.
//!
//! crashme executes random bytes, trinity makes random system calls, stress-ng runs its stressors of the boundary all at once. How long
//! each runs is `--stress`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::report::Report;
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::kernel;
use crate::linux::stress::{self, STRESS_NG, STRESSORS};
use crate::program::Program;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::run::{environment, log_tail};
use crate::setup::{self, Need};

/// How much longer than it is told to run a program may take, boot included, beside a quarter of that: busybox's timeout(1) counts
/// sleeps of a second, which take longer on a busy machine.
const SLACK: Duration = Duration::from_secs(240);

const PROGRAMS: [Need; 3] = [
    STRESS_NG,
    Need { what: "crashme", packages: &["crashme"], found: || setup::in_path("crashme") },
    Need { what: "trinity", packages: &["trinity"], found: || setup::in_path("trinity") },
];

/// What the guest says at the end: the shell that started the program still runs, and so do pipes, forks and files.
const ALIVE: &str = "still alive";

/// A program, and how it is run.
struct Stress {
    name: &'static str,
    program: &'static str,
    /// For the guest's shell.
    command: String,
    /// The CPU model.
    cpu: &'static str,
}

/// Runs the suite.
pub fn run(seconds: u64, report: &mut Report) -> Result<()> {
    setup::ensure(&PROGRAMS)?;
    let kernel = kernel::build()?;
    for stress in programs(seconds) {
        let outcome = stress.run(&kernel, seconds).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("stress/{}", stress.name), outcome);
    }
    Ok(())
}

fn programs(seconds: u64) -> [Stress; 3] {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    [
        Stress {
            name: "crashme",
            program: "/usr/bin/crashme",
            // Blocks of 8 KiB that may be executed, of seed 666; new processes until the time is over.
            command: format!("crashme +8192 666 100 {hours}:{minutes:02}:{rest:02} 2"),
            // QEMU 7.2 itself ends where a program executes VPINSRW with VEX.L (an assertion in `gen_pinsr`): no AVX.
            cpu: "Nehalem",
        },
        Stress {
            name: "trinity",
            program: "/usr/bin/trinity",
            // As nobody: root's calls may end the machine. Without sockets: trinity tries for ever to open
            // those of families that the kernel has not.
            command: format!(
                "mkdir trinity; chmod 777 trinity; cd trinity; timeout -s INT -k 30 {seconds} su -s /bin/sh nobody \
                 -c 'exec trinity -s 1 -C 4 -l off -q --disable-fds=sockets'"
            ),
            cpu: "max",
        },
        Stress {
            name: "stress-ng",
            program: "/usr/bin/stress-ng",
            command: format!("stress-ng {}", stress::arguments(&STRESSORS, seconds).join(" ")),
            cpu: "max",
        },
    ]
}

impl Stress {
    fn run(&self, kernel: &Path, seconds: u64) -> Result<()> {
        let script = format!("cd /tmp; {}; echo status $?; ls / | wc -l; echo {ALIVE}", self.command);
        let mut root = Initramfs::busybox()?;
        root.program(&Program::find(self.program)?)?;
        root.argv(&["/bin/sh".to_owned(), "-c".to_owned(), script]).env(&environment()).symbols_of(kernel)?;
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let initrd = scratch.path().join("initramfs.cpio");
        root.write(&initrd)?;
        let machine = Machine { smp: 2, cpu: self.cpu.to_owned(), memory: Some("1G".to_owned()), ..Machine::default() };
        let mut boot = Boot::new(machine, kernel);
        boot.initrd = Some(initrd);
        boot.append = "stdin=stream".to_owned();
        boot.timeout = Some(Duration::from_secs(seconds + seconds / 4) + SLACK);
        let output = Capture::default();
        let outcome = boot.run(Console::capture(&output))?;
        let text = output.text();
        let both = || format!("{}\n{}", log_tail(&text), log_tail(&outcome.log));
        match outcome.ending {
            Ending::Exit(0) => {}
            ending => bail!("it ended with {ending:?}\n{}", both()),
        }
        ensure!(text.lines().any(|line| line.trim_end() == ALIVE), "the shell did not come to its end\n{}", both());
        if let Some(line) = outcome.log.lines().find(|line| line.contains("invariant broken")) {
            bail!("{line}\n{}", both());
        }
        Ok(())
    }
}
