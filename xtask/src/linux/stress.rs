//! `./x linux stress`: Debian's stress-ng at the boundary, and what Linux's log says of it.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};

use super::selftests::warnings;
use super::{Which, run, userland};
use crate::console::Capture;
use crate::qemu::{Console, Ending, Machine, MachineType};
use crate::run::environment;
use crate::setup::{self, Need};

/// stress-ng.
pub const STRESS_NG: Need = Need { what: "stress-ng", packages: &["stress-ng"], found: || setup::in_path("stress-ng") };

/// Signals of all kinds, faults, switches, traces, filters, and system calls with bad addresses.
pub const STRESSORS: [&str; 9] =
    ["signal", "signest", "sigsegv", "sigfpe", "fault", "switch", "ptrace", "seccomp", "sysbadaddr"];

/// How much longer than the stressors' time the boot may take.
const SLACK: Duration = Duration::from_secs(300);

/// Runs stress-ng's stressors of the boundary, and looks for warnings in the kernel's log.
#[derive(clap::Args)]
pub struct StressArgs {
    #[command(flatten)]
    which: Which,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// CPU model
    #[arg(long, value_name = "MODEL", default_value = "max")]
    cpu: String,
    /// These stressors only
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
}

/// stress-ng's arguments: one of each, all at once.
pub fn arguments(stressors: &[&str], seconds: u64) -> Vec<String> {
    stressors
        .iter()
        .flat_map(|stressor| [format!("--{stressor}"), "1".to_owned()])
        .chain(["--timeout".to_owned(), format!("{seconds}s")])
        .chain(["--metrics-brief", "--temp-path", "/tmp"].map(str::to_owned))
        .collect()
}

/// Runs the command.
pub fn stress(args: StressArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX, STRESS_NG])?;
    let image = args.which.image()?;
    let stress_ng = crate::program::which("stress-ng").context("stress-ng was there just now")?;
    let stressors: Vec<&str> = match args.only.is_empty() {
        true => STRESSORS.to_vec(),
        false => args.only.iter().map(String::as_str).collect(),
    };
    let mut argv = vec![stress_ng.to_string_lossy().into_owned()];
    argv.extend(arguments(&stressors, args.minutes * 60));

    let mut root = userland::busybox(args.which.arch, &argv, &environment(), "stream")?;
    root.copy(&stress_ng, &stress_ng)?;
    // The libraries as the host's dynamic linker finds them, at the places where the guest's looks.
    let listing = crate::progress::output(Command::new("ldd").arg(&stress_ng))?;
    for word in String::from_utf8_lossy(&listing.stdout).split_whitespace() {
        if word.starts_with('/') {
            root.copy(word, word.as_ref())?;
        }
    }
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let (initrd, klog) = (scratch.path().join("initramfs.cpio"), scratch.path().join("kernel.log"));
    root.write(&initrd)?;
    let machine = Machine {
        smp: args.smp,
        cpu: args.cpu.clone(),
        machine: MachineType::Q35,
        memory: Some("1G".to_owned()),
        ..Machine::default()
    };
    let mut boot = run::boot(machine, &image, initrd, &klog);
    boot.timeout = Some(Duration::from_secs(args.minutes * 60) + SLACK);
    eprintln!("x: stressing Linux, {}, for {} minutes", args.which.variant(), args.minutes);
    let output = Capture::default();
    let outcome = boot.run(Console::capture(&output))?;
    print!("{}", output.text());
    let log = fs::read_to_string(&klog).unwrap_or_default();
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let warnings = warnings(&lines);
    println!("{} warnings in the kernel's log; it ended with {:?}", warnings.len(), outcome.ending);
    warnings.iter().for_each(|line| println!("    {line}"));
    let good = warnings.is_empty() && matches!(outcome.ending, Ending::Exit(0));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
