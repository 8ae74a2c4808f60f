//! `./x run`: boots the reference kernel to a shell, or with one program of the host.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::carried::Carried;
use crate::emulator::{self, Emulator};
use crate::initramfs::Initramfs;
use crate::program::Program;
use crate::qemu::{Accelerator, BOOT_LIMIT, Boot, Console, Ending, Errors, Machine, Outcome};
use crate::{bochs, console, kernel, setup};

/// The exit code when the guest could not give one: the kernel panicked, or the machine died.
pub const EXIT_KERNEL_FAILURE: u8 = 125;

/// The exit code when it took longer than `--timeout`, as with timeout(1).
pub const EXIT_TIMED_OUT: u8 = 124;

/// The exit code when nobody reads the output any more: 128 + SIGPIPE.
pub const EXIT_OUTPUT_CLOSED: u8 = 141;

/// The exit code when something on the host is missing or fails before the guest runs.
pub const EXIT_HOST_FAILURE: u8 = 126;

/// How much of the kernel's log is shown when it failed.
const LOG_TAIL: usize = 60;

/// Installs what is missing, builds the kernel, and boots it in QEMU, or in Bochs.
///
/// Without a PROGRAM it is a busybox shell: interactive in a terminal (Ctrl-A X leaves the emulator, Ctrl-C goes to the guest);
/// otherwise the shell reads its commands from standard input, and the last one's exit code is this command's.
///
/// With a PROGRAM of this machine: it runs in the guest with this standard input, with its dynamic linker and libraries, or,
/// for a script, its interpreter. The files of its Debian packages and of those that they depend on come along (a language's
/// standard library, a compiler's programs and headers), as far as the memory goes; so do the programs that the script after a
/// shell's `-c` calls, and those that a program is told to start (`strace -f bash -c …`). Its output is passed through, standard
/// error apart from standard output where they go to different files, and its exit code is this command's. A kernel that
/// fails gives 125 and its log, the host 126.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub machine: Machine,
    /// What executes the guest
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Emulator::Qemu)]
    emulator: Emulator,
    #[command(flatten)]
    carried: Carried,
    /// With page-table isolation: user mode runs on page tables of its own, without the kernel
    #[arg(long, conflicts_with = "kernel")]
    isolation: bool,
    /// For a CPU with FRED, which delivers events by new entry points; the kernel says so where the CPU has none
    #[arg(long, conflicts_with_all = ["kernel", "isolation"])]
    fred: bool,
    /// Boot this image instead of building one
    #[arg(long, value_name = "IMAGE")]
    pub kernel: Option<PathBuf>,
    /// Wait for gdb, and say how to attach it
    #[arg(long)]
    gdb: bool,
    /// Show the kernel's log on standard error
    #[arg(long, short)]
    pub verbose: bool,
    /// Give up after SECS seconds
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// A program of this machine, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

impl RunArgs {
    /// The program's command line, for people.
    pub fn shown(&self) -> String {
        if self.program.is_empty() { "a shell".to_owned() } else { self.program.join(" ") }
    }
}

/// Runs it.
pub fn run(args: RunArgs) -> Result<ExitCode> {
    let program = prepare(&args)?;
    let kernel = match &args.kernel {
        Some(kernel) => kernel.clone(),
        None => kernel::Build { isolation: args.isolation, fred: args.fred, ..kernel::Build::default() }.run()?,
    };
    let (outcome, interactive) = boot(&args, program, &kernel)?;
    report(&outcome, interactive, args.verbose, args.machine.accel)
}

/// Installs what is missing, and finds the program.
pub fn prepare(args: &RunArgs) -> Result<Option<Program>> {
    match args.emulator {
        Emulator::Qemu => setup::ensure(&[setup::QEMU, setup::BUSYBOX, setup::LINKER])?,
        Emulator::Bochs => {
            ensure!(!args.gdb, "Debian's Bochs has no interface for gdb: --gdb is for QEMU");
            setup::ensure(&[setup::BUSYBOX, setup::LINKER])?;
            if emulator::bochs().is_none() {
                bochs::install()?;
            }
        }
    }
    let find = |name: &String| Program::find(name)?.with_companions(&args.program[1..]);
    args.program.first().map(find).transpose()
}

/// Adds a program's companions to the archive, or leaves them out where the memory that was asked for does not hold them. Sees
/// to it that the machine holds the archive.
fn fit(mut root: Initramfs, program: Option<&Program>, machine: &mut Machine) -> Result<Initramfs> {
    let own = root.size()?;
    let memory = machine.memory_bytes().unwrap_or(u64::MAX);
    if !own.fits(memory) {
        bail!(
            "the guest's files take {} MiB, as the archive and unpacked, of the machine's {} MiB of memory. Give it more: \
             --memory {}M",
            (own.archive + own.unpacked) >> 20,
            memory >> 20,
            own.memory()
        );
    }
    let Some(program) = program else {
        return Ok(root);
    };
    let shown = program.path.display();
    for advice in program.companions.iter().filter_map(|found| found.advice.as_ref()) {
        eprintln!("x: {shown}: {advice}");
    }
    let mut whole = root.clone();
    whole.companions(program)?;
    let size = whole.size()?;
    if size.memory() << 20 <= memory || machine.memory.is_some() && size.fits(memory) {
        root = whole;
    } else if machine.memory.is_some() {
        eprintln!(
            "x: {shown}: only its libraries come along: with the files of its packages it needs --memory {}M",
            size.memory()
        );
    } else {
        eprintln!(
            "x: {shown}: the files of its packages come along, so the machine gets {} MiB of memory (--memory)",
            size.memory()
        );
        machine.memory = Some(format!("{}M", size.memory()));
        root = whole;
    }
    Ok(root)
}

/// What the guest finds: busybox, files of the host, and what it starts: the program with these words, or a shell.
pub fn files(carried: &Carried, words: &[String], program: Option<&Program>, kernel: &Path) -> Result<Initramfs> {
    let mut root = Initramfs::busybox()?;
    carried.add_to(&mut root)?;
    let mut argv = words.to_vec();
    match program {
        Some(program) => {
            root.program(program)?;
            argv[0] = program.path.to_str().map(str::to_owned).unwrap_or_default();
        }
        None => argv.push("/bin/sh".to_owned()),
    }
    root.argv(&argv).env(&environment()).symbols_of(kernel)?;
    Ok(root)
}

/// Boots `kernel` as the arguments say; also whether it had the terminal.
pub fn boot(args: &RunArgs, program: Option<Program>, kernel: &Path) -> Result<(Outcome, bool)> {
    let root = files(&args.carried, &args.program, program.as_ref(), kernel)?;
    let mut machine = args.machine.clone();
    machine.emulator = args.emulator;
    machine.fred = args.fred && emulator::bochs().is_some();
    let root = fit(root, program.as_ref(), &mut machine)?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;

    // A program whose output is not for the terminal must not have its line ends changed by one.
    let interactive = stdin().is_terminal() && (args.program.is_empty() || stdout().is_terminal());
    let errors = separate_errors(interactive && args.program.is_empty());
    let mut boot = Boot::new(machine, kernel);
    boot.initrd = Some(initrd);
    boot.timeout = args.timeout.map(Duration::from_secs);
    boot.verbose = args.verbose;
    boot.append = format!("stdin={}", if interactive { "tty" } else { "stream" });
    // As Linux does unless it is told otherwise. What is measured and compared has its memory where it always is.
    boot.append += " sysctl.kernel.randomize_va_space=2";
    if errors.is_some() {
        boot.append += " stderr=stream";
    }
    if let Some((rows, columns)) = console::terminal_size().filter(|_| interactive) {
        boot.append += &format!(" winsize={rows}x{columns}");
    }
    // A debugger may take its time.
    boot.boot_limit = (!args.gdb).then_some(BOOT_LIMIT);
    if args.gdb {
        boot.machine.extra.extend(["-s".into(), "-S".into()]);
        eprintln!("x: the guest waits for gdb, and for its `continue`. In another terminal:");
        eprintln!("x:   gdb {} -ex 'target remote localhost:1234'", kernel.display());
    }
    let console = if interactive {
        eprintln!("x: booting the Portcullis reference kernel. Ctrl-A X leaves the emulator.");
        Console::Terminal { errors }
    } else {
        Console::Stream { input: Box::new(stdin()), output: Box::new(stdout()), errors }
    };
    Ok((boot.run(console)?, interactive))
}

/// Standard error, where the guest's is to come out there: if it is another file than standard output, and one of the two is
/// no terminal. In one file the order of what is written to both would be lost. A shell on a terminal keeps its prompt there.
fn separate_errors(shell_on_terminal: bool) -> Errors {
    let same = || -> rustix::io::Result<bool> {
        let [output, errors] = [rustix::fs::fstat(stdout())?, rustix::fs::fstat(stderr())?];
        Ok((output.st_dev, output.st_ino) == (errors.st_dev, errors.st_ino))
    };
    let terminals = stdout().is_terminal() && stderr().is_terminal();
    let separate = !shell_on_terminal && !terminals && !same().unwrap_or(true);
    separate.then(|| Box::new(stderr()) as _)
}

/// The exit code, after what there is to say.
pub fn report(outcome: &Outcome, interactive: bool, log_was_shown: bool, accelerator: Accelerator) -> Result<ExitCode> {
    if !log_was_shown {
        for (call, program) in missing_calls(&outcome.log) {
            eprintln!("x: the kernel has no {call}, which {program} called");
        }
    }
    let code = match &outcome.ending {
        Ending::Exit(code) => return Ok(ExitCode::from(*code as u8)),
        // Ctrl-A X.
        Ending::Left => return Ok(ExitCode::SUCCESS),
        Ending::Quit(status) if interactive && status.success() => return Ok(ExitCode::SUCCESS),
        Ending::OutputClosed => return Ok(ExitCode::from(EXIT_OUTPUT_CLOSED)),
        Ending::TimedOut => EXIT_TIMED_OUT,
        Ending::NotBooted(_) => EXIT_KERNEL_FAILURE,
        Ending::Panic | Ending::Quit(_) => EXIT_KERNEL_FAILURE,
    };
    if !log_was_shown {
        eprintln!("{}", log_tail(&outcome.log));
    }
    match &outcome.ending {
        Ending::TimedOut => eprintln!("x: gave up after {:.0} s (--timeout)", outcome.elapsed.as_secs_f32()),
        Ending::NotBooted(limit) => eprintln!(
            "x: the kernel did not say a word for {} s, so the emulator was ended{}",
            limit.as_secs(),
            if accelerator == Accelerator::Kvm {
                ": this machine's KVM does not run it. Leave --accel kvm out"
            } else {
                "; if this machine is very busy, try again"
            }
        ),
        Ending::Panic if outcome.log.ends_with("panic\n") => {
            eprintln!("x: the kernel panicked; its log stands above (--gdb shows more)")
        }
        Ending::Panic => eprintln!("x: the kernel gave up; its log stands above"),
        Ending::Quit(status) if outcome.log.is_empty() => {
            bail!(
                "the emulator ended ({status}) before the kernel said anything; what it printed stands above{}",
                if accelerator == Accelerator::Kvm {
                    ". This machine's KVM does not run it as it is: leave --accel kvm out, or try another --cpu"
                } else {
                    ""
                }
            )
        }
        Ending::Quit(status) => {
            eprintln!("x: the emulator ended ({status}) without the program's exit code; the log stands above")
        }
        Ending::Exit(_) | Ending::Left | Ending::OutputClosed => unreachable!("returned above"),
    }
    Ok(ExitCode::from(code))
}

/// The system calls that the kernel says it has not, and who called each first.
fn missing_calls(log: &str) -> Vec<(String, String)> {
    let names = log.lines().filter_map(|line| {
        let (before, after) = line.split_once("system call ")?;
        let (number, program) = after.split_once(" is not implemented (")?;
        let number: usize = number.parse().ok()?;
        let name = match before.ends_with("32-bit ") {
            true => syscalls::x86::Sysno::new(number).map(|call| call.name()),
            false => syscalls::x86_64::Sysno::new(number).map(|call| call.name()),
        };
        let shown = name.map_or_else(|| format!("system call {number}"), str::to_owned);
        Some((shown, program.strip_suffix(')')?.to_owned()))
    });
    names.collect()
}

/// The last lines of a kernel's log.
pub fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

/// The first program's environment.
pub fn environment() -> Vec<String> {
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    vec![
        "PATH=/bin:/sbin:/usr/bin:/usr/sbin".to_owned(),
        "HOME=/root".to_owned(),
        "USER=root".to_owned(),
        "SHELL=/bin/sh".to_owned(),
        format!("TERM={terminal}"),
        r"PS1=portcullis:\w\$ ".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_calls_have_names() {
        let log = "[  1.1] WARN  calls::table64: system call 52 is not implemented (bash)\nother\n\
                   [  1.2] WARN  calls::compat::table: 32-bit system call 52 is not implemented (a b)\n\
                   [  1.3] WARN  calls::table64: system call 999 is not implemented (x)\n";
        let expected = [("getpeername", "bash"), ("umount2", "a b"), ("system call 999", "x")];
        let expected = expected.map(|(call, program)| (call.to_owned(), program.to_owned()));
        assert_eq!(missing_calls(log), expected);
    }
}
