//! `./x linux run`: boots Linux to a shell, or with one program of the host, as `./x run` boots the reference kernel.

use std::fs;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use super::config::{Arch, Config};
use super::{Which, debian, userland};
use crate::initramfs::Initramfs;
use crate::program::Program;
use crate::qemu::{Boot, Console, Ending, Machine, Outcome};
use crate::run::{EXIT_KERNEL_FAILURE, EXIT_OUTPUT_CLOSED, EXIT_TIMED_OUT, environment, log_tail};
use crate::setup;

/// The command line of every boot: the kernel's messages have a serial port to themselves, and a panic ends the machine.
const APPEND: &str = "console=ttyS2,115200 panic=-1 vsyscall=xonly";

/// Which programs Linux finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Userland {
    /// Busybox, and one program of this machine
    Busybox,
    /// Debian 12 on a disk (debootstrap, with gcc), made the first time; what is written to it is not kept
    Debian,
}

/// Boots Linux in QEMU: a shell, or one program, with its exit code.
///
/// Without PROGRAM a terminal gets an interactive shell, and commands are read from standard input otherwise.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    which: Which,
    /// Which programs it finds. For Debian's take --config debian-like
    #[arg(long, value_enum, default_value_t = Userland::Busybox)]
    userland: Userland,
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
    /// A program of this machine, or with --userland debian one of Debian's, and its arguments
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
pub fn run(mut args: RunArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::BUSYBOX])?;
    let interactive = stdin().is_terminal() && (args.program.is_empty() || stdout().is_terminal());
    let input = if interactive { "tty" } else { "stream" };
    let root = match args.userland {
        Userland::Busybox => busybox(&args, input)?,
        Userland::Debian => debian(&mut args, input)?,
    };
    let image = args.which.image()?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;
    let klog = if args.verbose { PathBuf::from("/dev/stderr") } else { scratch.path().join("kernel.log") };
    let mut boot = boot(args.machine, &image, initrd, &klog);
    boot.timeout = args.timeout.map(Duration::from_secs);
    if let Some(words) = &args.append {
        boot.append = format!("{} {words}", boot.append);
    }
    let console = if interactive {
        eprintln!("x: booting Linux, {}. Ctrl-A X leaves QEMU.", args.which.variant());
        Console::Terminal { errors: None }
    } else {
        Console::Stream { input: Box::new(stdin()), output: Box::new(stdout()), errors: None }
    };
    let outcome = boot.run(console)?;
    // With --verbose it was shown as it came, and is in no file.
    let log = if args.verbose { String::new() } else { fs::read_to_string(&klog).unwrap_or_default() };
    report(&outcome, interactive, &log)
}

/// Busybox, and the program that was asked for.
fn busybox(args: &RunArgs, input: &str) -> Result<Initramfs> {
    let program = args.program.first().map(|name| Program::find(name)).transpose()?;
    let mut argv = args.program.clone();
    match &program {
        Some(program) => argv[0] = program.path.to_string_lossy().into_owned(),
        None => argv.push("/bin/sh".to_owned()),
    }
    let mut root = userland::busybox(args.which.arch, &argv, &environment(), input)?;
    if let Some(directory) = &args.initramfs {
        root.tree(directory)?;
    }
    // The archive's busybox is of the guest's width, and the host's may not be.
    if let Some(program) = program.filter(|program| setup::busybox().as_ref() != Some(&program.path)) {
        root.program(&program)?;
    }
    Ok(root)
}

/// Debian's disk in the machine, and what starts a program of it: without one, a login shell.
fn debian(args: &mut RunArgs, input: &str) -> Result<Initramfs> {
    let Which { arch, config, .. } = args.which;
    ensure!(
        arch == Arch::X86_64 && config == Config::DebianLike,
        "Debian's userland is 64-bit, and of the configurations debian-like alone has the driver and the file system of its \
         disk: ./x linux run --config debian-like --userland debian"
    );
    ensure!(
        args.initramfs.is_none(),
        "--initramfs adds files to busybox's userland; Debian's is a disk. Give them on standard input, or leave \
         --userland debian out"
    );
    debian::attach(&mut args.machine, &debian::disk()?);
    let mut argv = args.program.clone();
    if argv.is_empty() {
        argv.extend(["/bin/bash", "--login"].map(str::to_owned));
    }
    let mut environment = environment();
    // The shell's own, and a prompt that says where one is.
    environment.retain(|variable| !variable.starts_with("SHELL=") && !variable.starts_with("PS1="));
    environment.push("SHELL=/bin/bash".to_owned());
    userland::debian(&argv, &environment, input)
}

/// The exit code, after what there is to say.
fn report(outcome: &Outcome, interactive: bool, klog: &str) -> Result<ExitCode> {
    let code = match &outcome.ending {
        Ending::Exit(code) => return Ok(ExitCode::from(*code as u8)),
        // Ctrl-A X.
        Ending::Left => return Ok(ExitCode::SUCCESS),
        Ending::Quit(status) if interactive && status.success() => return Ok(ExitCode::SUCCESS),
        Ending::OutputClosed => return Ok(ExitCode::from(EXIT_OUTPUT_CLOSED)),
        Ending::TimedOut => EXIT_TIMED_OUT,
        Ending::Panic | Ending::NotBooted(_) | Ending::Quit(_) => EXIT_KERNEL_FAILURE,
    };
    eprintln!("{}", log_tail(klog));
    match &outcome.ending {
        Ending::TimedOut => eprintln!("x: gave up after {:.0} s (--timeout)", outcome.elapsed.as_secs_f32()),
        Ending::Quit(status) if klog.is_empty() => {
            bail!("QEMU ended ({status}) without the program's exit code; what it printed stands above")
        }
        _ => eprintln!("x: Linux ended without the program's exit code; its log stands above"),
    }
    Ok(ExitCode::from(code))
}
