//! Suite `machines`: the reference kernel on machines that tell of their processors and timers in different ways.
//!
//! Each boot runs a shell that goes to each CPU in turn, and has one line of the kernel's log checked: by which timer it measured the
//! local APIC's timer, and the rate that it found. QEMU's local APIC timer runs at 1 GHz.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::report::Report;
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::kernel;
use crate::qemu::{Boot, Console, Disc, Ending, Machine, MachineType};
use crate::run::{environment, log_tail};
use crate::{image, setup};

/// How long one boot may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The rate of QEMU's local APIC timer.
const APIC_KHZ: u64 = 1_000_000;

const PM_TIMER: &str = "the ACPI PM timer";
const PIT: &str = "the PIT";
const LOCAL_APIC: &str = "a local APIC timer of 1 GHz";

/// From each CPU to the next: the one that a task is moved to gets an interrupt, by its local APIC id.
const VISIT: &str = "n=$(nproc); i=0; while [ $i -lt $n ]; do taskset -c $i echo cpu $i; i=$((i + 1)); done";

/// A machine, and what the kernel finds in it.
struct Case {
    name: &'static str,
    machine: MachineType,
    /// CPUs that the machine has.
    smp: u32,
    /// Whether the clock counts instructions, so that nothing depends on how busy the host is.
    icount: bool,
    /// Further arguments for QEMU.
    extra: &'static [&'static str],
    /// CPUs that the kernel uses.
    cpus: u32,
    /// What it measures by.
    reference: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "ids with a hole, q35",
        machine: MachineType::Q35,
        smp: 6,
        icount: false,
        // Local APIC ids 0, 1, 2, 4, 5, 6.
        extra: &["-smp", "6,sockets=2,cores=3,threads=1"],
        cpus: 6,
        reference: PM_TIMER,
    },
    Case {
        name: "ids with a hole, microvm",
        machine: MachineType::Microvm,
        smp: 6,
        icount: false,
        extra: &["-smp", "6,sockets=2,cores=3,threads=1"],
        cpus: 6,
        reference: PIT,
    },
    Case {
        name: "processors that may be plugged in later",
        machine: MachineType::Q35,
        smp: 2,
        icount: false,
        extra: &["-smp", "2,maxcpus=4"],
        cpus: 2,
        reference: PM_TIMER,
    },
    Case {
        name: "tables outside of RAM's last 2 MiB",
        machine: MachineType::Q35,
        smp: 2,
        icount: false,
        // RAM ends 128 KiB below this, at a multiple of 2 MiB; the tables lie above.
        extra: &["-m", "262272k"],
        cpus: 2,
        reference: PM_TIMER,
    },
    Case {
        name: "more processors than the kernel uses",
        machine: MachineType::Q35,
        smp: 8,
        icount: false,
        extra: &["-smp", "10"],
        cpus: 8,
        reference: PM_TIMER,
    },
    Case {
        name: "PIIX4",
        machine: MachineType::Q35,
        smp: 2,
        icount: false,
        extra: &["-M", "pc"],
        cpus: 2,
        reference: PM_TIMER,
    },
    Case {
        name: "no ACPI",
        machine: MachineType::Microvm,
        smp: 2,
        icount: false,
        extra: &["-M", "acpi=off"],
        cpus: 1,
        reference: PIT,
    },
    Case {
        name: "neither PM timer nor PIT",
        machine: MachineType::Microvm,
        smp: 2,
        icount: false,
        extra: &["-M", "pit=off"],
        cpus: 2,
        reference: LOCAL_APIC,
    },
    Case {
        name: "PM timer, counted instructions",
        machine: MachineType::Q35,
        smp: 1,
        icount: true,
        extra: &[],
        cpus: 1,
        reference: PM_TIMER,
    },
    Case {
        name: "PIT, counted instructions",
        machine: MachineType::Microvm,
        smp: 1,
        icount: true,
        extra: &[],
        cpus: 1,
        reference: PIT,
    },
];

/// Runs the suite.
pub fn run(report: &mut Report) -> Result<()> {
    let kernel = kernel::build()?;
    for case in CASES {
        let outcome = case.run(&kernel).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("machines/{}", case.name), outcome);
    }
    setup::ensure(&[image::OVMF])?;
    for (name, extra) in [("a disc, BIOS", &[][..]), ("a disc, UEFI", &["-bios", image::OVMF_IMAGE])] {
        let outcome = from_disc(&kernel, extra).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("machines/{name}"), outcome);
    }
    Ok(())
}

/// What `./x image` makes boots by GRUB, finds both CPUs and its files.
fn from_disc(kernel: &Path, extra: &[&str]) -> Result<()> {
    let mut root = Initramfs::busybox()?;
    root.argv(&["/bin/sh", "-c", VISIT]).env(&environment()).symbols_of(kernel)?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let disc = scratch.path().join("portcullis.iso");
    image::write(kernel, &root, "stdin=stream", &disc)?;
    let machine = Machine {
        machine: MachineType::Q35,
        smp: 2,
        extra: extra.iter().map(OsString::from).collect(),
        ..Machine::default()
    };
    let mut boot = Boot::new(machine, kernel);
    boot.disc = Some(Disc::Cd(disc));
    boot.timeout = Some(LIMIT);
    let output = Capture::default();
    let outcome = boot.run(Console::capture(&output))?;
    let log = log_tail(&outcome.log);
    ensure!(matches!(outcome.ending, Ending::Exit(0)), "{:?}\n{}\n{log}", outcome.ending, output.text());
    // The firmware and GRUB print on the same port.
    ensure!(output.text().ends_with("cpu 0\ncpu 1\n"), "output {:?}\n{log}", output.text());
    Ok(())
}

impl Case {
    fn run(&self, kernel: &Path) -> Result<()> {
        let mut root = Initramfs::busybox()?;
        root.argv(&["/bin/sh", "-c", VISIT]).env(&environment()).symbols_of(kernel)?;
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let initrd = scratch.path().join("initramfs.cpio");
        root.write(&initrd)?;

        let machine = Machine {
            machine: self.machine,
            smp: self.smp,
            icount: self.icount.then(|| "shift=0".to_owned()),
            extra: self.extra.iter().map(OsString::from).collect(),
            ..Machine::default()
        };
        let mut boot = Boot::new(machine, kernel);
        boot.initrd = Some(initrd);
        boot.append = "stdin=stream machine-log=2".to_owned();
        boot.timeout = Some(LIMIT);
        let output = Capture::default();
        let outcome = boot.run(Console::capture(&output))?;
        let log = log_tail(&outcome.log);
        ensure!(matches!(outcome.ending, Ending::Exit(0)), "{:?}\n{}\n{log}", outcome.ending, output.text());
        let expected: String = (0..self.cpus).map(|cpu| format!("cpu {cpu}\n")).collect();
        ensure!(output.text() == expected, "output {:?} and not {expected:?}\n{log}", output.text());
        let (khz, reference) = rate(&outcome.log).with_context(|| format!("no rates in the log:\n{log}"))?;
        ensure!(reference == self.reference, "measured by {reference} and not by {}", self.reference);
        // Counted instructions are exact but for what the kernel's own reads take; otherwise the host may be in the way.
        let tolerance = APIC_KHZ / if self.icount { 10_000 } else { 20 };
        ensure!(khz.abs_diff(APIC_KHZ) <= tolerance, "the local APIC's timer runs at {khz} kHz by {reference}");
        Ok(())
    }
}

/// The local APIC timer's rate in kHz, and by what the kernel measured it.
fn rate(log: &str) -> Option<(u64, &str)> {
    let (_, rest) = log.split_once("local APIC timer: ")?;
    let (khz, reference) = rest.lines().next()?.split_once(" kHz, by ")?;
    Some((khz.parse().ok()?, reference))
}
