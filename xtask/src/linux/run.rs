//! `./x linux run`: boots Linux to a shell, or with one program of the host, as `./x run` boots the reference kernel.

use std::fs;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Which, build, userland};
use crate::program::Program;
use crate::qemu::{Boot, Console, Ending, Machine, Outcome};
use crate::run::{EXIT_KERNEL_FAILURE, EXIT_OUTPUT_CLOSED, EXIT_TIMED_OUT, environment, log_tail};
use crate::setup;

/// The command line of every boot: the kernel's messages have a serial port to themselves, and a panic ends the machine.
const APPEND: &str = "console=ttyS2,115200 panic=-1 vsyscall=xonly";

/// Boots Linux in QEMU: a shell, or one program of this machine, with its exit code.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    machine: Machine,
    /// Add the files under DIR to the guest's root
    #[arg(long, value_name = "DIR")]
    initramfs: Option<PathBuf>,
    /// Add to the kernel's command line
    #[arg(long, value_name = "WORDS")]
    append: Option<String>,
    /// Show the kernel's log on standard error
    #[arg(long, short)]
    verbose: bool,
    /// Give up after SECS seconds
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// A static program of this machine, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// A boot of a Linux image: the machine with a third serial port, whose output is `klog`.
pub fn boot(mut machine: Machine, image: &Path, initrd: PathBuf, klog: &Path) -> Boot {
    machine.extra.extend([
        "-chardev".into(),
        format!("file,id=klog,path={}", klog.display()).into(),
        "-device".into(),
        "isa-serial,index=2,chardev=klog".into(),
    ]);
    let mut append = APPEND.to_owned();
    if let Some(khz) = clock_khz().filter(|_| machine.icount.is_none()) {
        // On a busy host Linux fails to find the speed of its clock, and stops.
        append += &format!(" tsc_early_khz={khz}");
    }
    let mut boot = Boot::new(machine, image);
    boot.initrd = Some(initrd);
    boot.append = append;
    boot
}

/// How fast this machine's time-stamp counter runs, which is also the guest's.
pub fn clock_khz() -> Option<u32> {
    let cpus = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpus.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    Some((mhz * 1000.0) as u32)
}

/// Runs the command.
pub fn run(args: RunArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX])?;
    let image = build::image(args.which.arch, args.which.config, args.which.variant())?;
    let program = args.program.first().map(|name| Program::find(name)).transpose()?;
    let mut argv = args.program.clone();
    match &program {
        Some(program) => argv[0] = program.path.to_string_lossy().into_owned(),
        None => argv.push("/bin/sh".to_owned()),
    }
    let interactive = stdin().is_terminal() && (args.program.is_empty() || stdout().is_terminal());
    let input = if interactive { "tty" } else { "stream" };
    let mut root = userland::busybox(args.which.arch, &argv, &environment(), input)?;
    if let Some(directory) = &args.initramfs {
        root.tree(directory)?;
    }
    // The archive's busybox is of the guest's width, and the host's may not be.
    if let Some(program) = program.filter(|program| setup::busybox().as_ref() != Some(&program.path)) {
        root.copy(&program.path, &program.path)?;
    }
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;
    let klog = if args.verbose {
        PathBuf::from("/dev/stderr")
    } else {
        scratch.path().join("kernel.log")
    };
    let mut boot = boot(args.machine, &image, initrd, &klog);
    boot.timeout = args.timeout.map(Duration::from_secs);
    if let Some(words) = &args.append {
        boot.append = format!("{} {words}", boot.append);
    }
    let console = if interactive {
        eprintln!(
            "x: booting Linux 6.1, {}. Ctrl-A X leaves QEMU.",
            args.which.variant()
        );
        Console::Terminal
    } else {
        Console::Stream {
            input: Box::new(stdin()),
            output: Box::new(stdout()),
        }
    };
    let outcome = boot.run(console)?;
    // With --verbose it was shown as it came, and is in no file.
    let log = if args.verbose {
        String::new()
    } else {
        fs::read_to_string(&klog).unwrap_or_default()
    };
    report(&outcome, interactive, &log)
}

/// The exit code, after what there is to say.
fn report(outcome: &Outcome, interactive: bool, klog: &str) -> Result<ExitCode> {
    let code = match &outcome.ending {
        Ending::Exit(code) => return Ok(ExitCode::from(*code as u8)),
        // Ctrl-A X.
        Ending::Quit(status) if interactive && status.success() => return Ok(ExitCode::SUCCESS),
        Ending::OutputClosed => return Ok(ExitCode::from(EXIT_OUTPUT_CLOSED)),
        Ending::TimedOut => EXIT_TIMED_OUT,
        Ending::Panic | Ending::Quit(_) => EXIT_KERNEL_FAILURE,
    };
    eprintln!("{}", log_tail(klog));
    match &outcome.ending {
        Ending::TimedOut => eprintln!(
            "x: gave up after {:.0} s (--timeout)",
            outcome.elapsed.as_secs_f32()
        ),
        Ending::Quit(status) if klog.is_empty() => {
            bail!("QEMU ended ({status}) without the program's exit code; what it printed stands above")
        }
        _ => eprintln!("x: Linux ended without the program's exit code; its log stands above"),
    }
    Ok(ExitCode::from(code))
}
