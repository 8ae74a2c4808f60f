//! A boot: the machine, QEMU's command line, the guest's ports, how it ended. Bochs, which can take QEMU's place, is in
//! [`bochs`].
//!
//! | port | what it is | where it goes |
//! | --- | --- | --- |
//! | COM1 | the guest's terminal, or its output | the host's terminal, or [`Console::Stream`]'s output |
//! | COM2 | the first program's input when that is a stream; the terminal's size | from [`Console::Stream`]'s input; [`console::send_sizes`] |
//! | COM3 | the first program's standard error, where it is not to be mixed with the output | [`Errors`] |
//! | 0xE9 | the kernel's log | [`Outcome::log`], and standard error when asked for |
//! | 0xF4 | how it ended | QEMU's exit status; Bochs has none, and the log alone says it |

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal};

use crate::console::{self, Capture, SavedTerminal};
use crate::emulator::{self, Emulator, Started};
use crate::{bochs, progress};

/// QEMU's exit status after a kernel panic: the kernel writes 0x11 to the exit port, QEMU makes it `2 * 0x11 + 1`.
const STATUS_PANIC: i32 = 35;

/// The end of the log line by which the kernel says that its input port is set up. What arrives before is lost when the
/// kernel enables the port's FIFO.
const INPUT_READY: &[u8] = b"stdin: ready\n";

/// How long QEMU may take to end when asked to, or when the machine is off.
const TERMINATION_LIMIT: Duration = Duration::from_secs(5);

/// How long a kernel may boot: until its first word, by a slow emulator on a busy host.
pub const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// The same on the host's own hardware.
const BOOT_LIMIT_KVM: Duration = Duration::from_secs(20);

/// How long nothing is said about a boot that takes long.
const BOOT_NOTICE: Duration = Duration::from_secs(10);

/// The CPU model if nothing else is asked for: all that the emulator has.
pub const DEFAULT_CPU: &str = "max";

/// The last line of the log of a kernel that panicked.
const PANIC: &str = "panic\n";

/// The machine's memory if nothing else is asked for.
const DEFAULT_MEMORY: &str = "256M";

/// Which machine QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MachineType {
    /// A minimal machine without firmware to wait for
    Microvm,
    /// A PC with PCI and ACPI
    Q35,
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accelerator {
    /// QEMU's translator; works everywhere
    Tcg,
    /// The host's hardware; needs /dev/kvm
    Kvm,
}

/// The machine that boots.
#[derive(Clone, Debug, clap::Args)]
pub struct Machine {
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub smp: u32,
    /// CPU model (what `qemu-system-x86_64 -cpu help` lists)
    #[arg(long, value_name = "MODEL", default_value = DEFAULT_CPU)]
    pub cpu: String,
    /// Machine type
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = MachineType::Microvm)]
    pub machine: MachineType,
    /// What executes the guest
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Accelerator::Tcg)]
    pub accel: Accelerator,
    /// Memory, with a unit (M, G); 256M if not given, or more where the files of a program's packages need it
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// What executes it all.
    #[arg(skip)]
    pub emulator: Emulator,
    /// Whether Bochs's CPU has FRED, for a Bochs that is built with it.
    #[arg(skip)]
    pub fred: bool,
    /// Counts instructions in place of time: the value of QEMU's `-icount`.
    #[arg(skip)]
    pub icount: Option<String>,
    /// Further arguments for QEMU.
    #[arg(skip)]
    pub extra: Vec<OsString>,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            smp: 1,
            cpu: DEFAULT_CPU.into(),
            machine: MachineType::Microvm,
            accel: Accelerator::Tcg,
            memory: None,
            emulator: Emulator::Qemu,
            fred: false,
            icount: None,
            extra: Vec::new(),
        }
    }
}

/// Where the first program's standard error goes that is not to be mixed with its output.
pub type Errors = Option<Box<dyn Write + Send>>;

/// Where the guest's COM ports lead.
pub enum Console {
    /// To the terminal that this process has. Ctrl-A X leaves QEMU; all other keys, Ctrl-C too, belong to the guest.
    Terminal {
        /// COM3's bytes.
        errors: Errors,
    },
    /// COM1's bytes go to `output` as they are; `input` comes in on COM2.
    Stream {
        /// May block forever and may never end: nothing waits for it.
        input: Box<dyn Read + Send>,
        /// When it cannot be written any more, the boot ends.
        output: Box<dyn Write + Send>,
        /// COM3's bytes.
        errors: Errors,
    },
}

impl Console {
    /// Output is collected; the input is empty.
    pub fn capture(output: &Capture) -> Console {
        Console::Stream { input: Box::new(std::io::empty()), output: Box::new(output.clone()), errors: None }
    }
}

/// One boot of any kernel.
pub struct Boot {
    /// The machine.
    pub machine: Machine,
    /// The kernel image (`-kernel`).
    pub kernel: PathBuf,
    /// A disc that the machine's firmware boots, with kernel, initramfs and command line of its own. QEMU only.
    pub disc: Option<Disc>,
    /// Its initramfs.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub append: String,
    /// When to give up.
    pub timeout: Option<Duration>,
    /// How long the kernel may boot: until it says something on its log's port, or prints something.
    pub boot_limit: Option<Duration>,
    /// How long no output may come before it is given up. For [`Console::Stream`].
    pub silence: Option<Duration>,
    /// Whether the kernel's log goes to standard error as it comes.
    pub verbose: bool,
}

/// What the machine's firmware boots from.
pub enum Disc {
    /// A CD's image.
    Cd(PathBuf),
    /// A folder, which the machine sees as a disc with a FAT file system.
    Folder(PathBuf),
}

/// How a boot ended.
#[derive(Debug)]
pub enum Ending {
    /// The first program ended with this code.
    Exit(i32),
    /// The kernel panicked.
    Panic,
    /// The kernel did not say a word within this time.
    NotBooted(Duration),
    /// It took longer than it was allowed.
    TimedOut,
    /// Nobody reads the output any more.
    OutputClosed,
    /// The user left Bochs.
    Left,
    /// The emulator ended without the kernel's having said so: the user left QEMU, or the machine died.
    Quit(ExitStatus),
}

/// What came of a boot.
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The kernel's log.
    pub log: String,
    /// How long it took.
    pub elapsed: Duration,
}

enum Event {
    Left,
    Ended,
    Log,
    Output,
    OutputClosed,
}

impl Boot {
    /// A boot without an initramfs, a command line or a limit.
    pub fn new(machine: Machine, kernel: &Path) -> Boot {
        let kernel = kernel.to_owned();
        Boot {
            machine,
            kernel,
            disc: None,
            initrd: None,
            append: String::new(),
            timeout: None,
            boot_limit: None,
            silence: None,
            verbose: false,
        }
    }

    /// Boots, and waits for the end.
    pub fn run(&self, console: Console) -> Result<Outcome> {
        let start = Instant::now();
        let saved = matches!(console, Console::Terminal { .. }).then(SavedTerminal::save);
        let mut started = match self.machine.emulator {
            Emulator::Qemu => self.start_qemu(&console)?,
            Emulator::Bochs => self.start_bochs(&console)?,
        };

        let (events, wait) = mpsc::channel();
        let (input_ready, may_send) = mpsc::channel();
        let messages = forward_errors(&mut started.child);
        let log = Capture::default();
        let logger = Logger {
            log: log.clone(),
            verbose: self.verbose,
            input_ready: Some(input_ready),
            start: started.log_start,
        };
        let mut threads = vec![logger.collect(started.log, events.clone())];
        // Held until the emulator has ended: QEMU forgets what it has not read yet when the other side hangs up.
        let port = started.com2.try_clone().context("cannot share a port")?;
        let (running, ended) = mpsc::channel::<()>();
        let errors = match console {
            Console::Stream { input, output, errors } => {
                let com1 = started.com1.context("the guest's output has no port")?;
                threads.push(copy_output(com1, output, events.clone()));
                // Never joined: its input may block for ever. It fails when the emulator has gone, which is how it ends.
                thread::spawn(move || may_send.recv().is_ok().then(|| console::send(input, port)));
                errors
            }
            Console::Terminal { errors } => {
                if let Some(com1) = started.com1 {
                    console::make_raw()?;
                    let keys = com1.try_clone().context("cannot share a port")?;
                    threads.push(copy_output(com1, Box::new(std::io::stdout()), events.clone()));
                    let events = events.clone();
                    // Never joined, as it waits for a key.
                    thread::spawn(move || {
                        console::send_keys(keys).is_ok_and(|left| left) && events.send(Event::Left).is_ok()
                    });
                }
                threads.push(thread::spawn(move || {
                    if may_send.recv().is_ok() {
                        // It fails when the emulator has gone.
                        let _ = console::send_sizes(port, &ended);
                    }
                }));
                errors
            }
        };
        if let Some((errors, com3)) = errors.zip(started.com3) {
            threads.push(copy_output(com3, errors, events));
        }

        let (status, cut_short) = self.supervise(&mut started.child, &wait)?;
        drop((running, started.terminal));
        for thread in threads.into_iter().chain(messages) {
            thread.join().expect("a console thread does not panic");
        }
        drop((saved, started.com2));
        let log = log.text();
        let ending = match (cut_short, console::exit_code(&log), status.code()) {
            (Some(ending), ..) => ending,
            (None, Some(code), _) => Ending::Exit(code),
            (None, None, Some(STATUS_PANIC)) => Ending::Panic,
            (None, None, _) if log.ends_with(PANIC) => Ending::Panic,
            (None, None, _) => Ending::Quit(status),
        };
        if let (Some(scratch), Ending::Quit(_) | Ending::NotBooted(_)) = (&started.scratch, &ending) {
            bochs::complaints(scratch.path()).iter().for_each(|line| eprintln!("{line}"));
        }
        Ok(Outcome { ending, log, elapsed: start.elapsed() })
    }

    /// Starts QEMU.
    fn start_qemu(&self, console: &Console) -> Result<Started> {
        let mut ports = Ports::default();
        let mut command = Command::new(emulator::qemu());
        command.args(self.machine.arguments());
        match &self.disc {
            Some(Disc::Cd(image)) => command.arg("-cdrom").arg(image),
            Some(Disc::Folder(folder)) => {
                let mut drive = OsString::from("format=raw,file=fat:rw:");
                drive.push(folder);
                command.arg("-drive").arg(drive)
            }
            None => command.arg("-kernel").arg(&self.kernel),
        };
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
        }
        if !self.append.is_empty() {
            command.args(["-append", &self.append]);
        }
        let log = ports.chardev(&mut command, "log")?;
        command.args(["-device", "isa-debugcon,iobase=0xe9,chardev=log"]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        let (com1, errors) = match console {
            Console::Terminal { errors } => {
                command.args(["-chardev", "stdio,id=com1,mux=on,signal=off", "-mon", "chardev=com1"]);
                (None, errors)
            }
            Console::Stream { errors, .. } => {
                command.stdin(Stdio::null()).stdout(Stdio::null());
                (Some(ports.chardev(&mut command, "com1")?), errors)
            }
        };
        command.args(["-serial", "chardev:com1"]);
        let com2 = ports.chardev(&mut command, "com2")?;
        command.args(["-device", "isa-serial,index=1,chardev=com2"]);
        let com3 = match errors {
            Some(_) => {
                let com3 = ports.chardev(&mut command, "com3")?;
                command.args(["-device", "isa-serial,index=2,chardev=com3"]);
                Some(com3)
            }
            None => None,
        };
        Ok(Started {
            child: ports.spawn(command)?,
            log,
            log_start: None,
            com1,
            terminal: None,
            com2,
            com3,
            scratch: None,
        })
    }

    /// Starts Bochs.
    fn start_bochs(&self, console: &Console) -> Result<Started> {
        let machine = &self.machine;
        ensure!(machine.accel == Accelerator::Tcg, "Bochs executes the guest itself: leave --accel kvm out");
        ensure!(machine.extra.is_empty(), "Bochs takes no arguments of QEMU: {:?}", machine.extra);
        let memory = machine.memory_bytes();
        let (terminal, errors) = match console {
            Console::Terminal { errors } => (true, errors.is_some()),
            Console::Stream { errors, .. } => (false, errors.is_some()),
        };
        bochs::start(&bochs::Guest {
            cpu: if machine.cpu == DEFAULT_CPU { bochs::DEFAULT_MODEL } else { &machine.cpu },
            fred: machine.fred,
            smp: machine.smp,
            memory: memory.with_context(|| format!("{:?} is no size of memory", machine.memory))?,
            kernel: &self.kernel,
            initrd: self.initrd.as_deref(),
            append: &self.append,
            terminal,
            errors,
        })
    }

    /// Boots with empty input, and gives each line of output to `each` as it comes.
    pub fn run_lines(&self, mut each: impl FnMut(&str)) -> Result<Outcome> {
        let (output, lines) = mpsc::channel();
        let output = console::Lines::new(move |line| output.send(line).is_ok());
        let console = Console::Stream { input: Box::new(std::io::empty()), output: Box::new(output), errors: None };
        thread::scope(|scope| {
            let boot = scope.spawn(|| self.run(console));
            lines.iter().for_each(|line: String| each(&line));
            boot.join().expect("a boot does not panic")
        })
    }

    /// Waits until QEMU ends, or ends it and says why.
    fn supervise(&self, qemu: &mut Child, events: &Receiver<Event>) -> Result<(ExitStatus, Option<Ending>)> {
        let start = Instant::now();
        let deadline = self.timeout.map(|limit| start + limit);
        // Until the first sign of life, and until something is said about its absence.
        let mut boot = self.boot_limit.map(|limit| match self.machine.accel {
            Accelerator::Kvm => limit.min(BOOT_LIMIT_KVM),
            Accelerator::Tcg => limit,
        });
        let mut notice = boot.map(|_| start + BOOT_NOTICE);
        let cut_short = loop {
            let now = Instant::now();
            let boot_deadline = boot.map(|limit| start + limit);
            if deadline.is_some_and(|deadline| now >= deadline) {
                break Some(Ending::TimedOut);
            }
            if let Some(limit) = boot.filter(|limit| now >= start + *limit) {
                break Some(Ending::NotBooted(limit));
            }
            if notice.is_some_and(|notice| now >= notice) {
                notice = None;
                eprintln!(
                    "x: still waiting for the kernel's first sign of life ({} s; at most {} s)",
                    start.elapsed().as_secs(),
                    boot.unwrap_or_default().as_secs()
                );
            }
            let until = deadline.into_iter().chain(boot_deadline).chain(notice);
            let left = until.map(|deadline| deadline.saturating_duration_since(now)).min();
            let event = match left.into_iter().chain(self.silence).min() {
                Some(limit) => events.recv_timeout(limit),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok(Event::Output | Event::Log) => (boot, notice) = (None, None),
                Ok(Event::OutputClosed) => break Some(Ending::OutputClosed),
                Ok(Event::Left) => break Some(Ending::Left),
                Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {
                    // One of the deadlines, or else silence.
                    if left.is_none_or(|left| self.silence.is_some_and(|silence| silence < left)) {
                        break Some(Ending::TimedOut);
                    }
                }
            }
        };
        if cut_short.is_some() {
            let _ = rustix::process::kill_process(Pid::from_child(qemu), Signal::TERM);
        }
        // Its readers may still have something to write; only then it ends.
        if !progress::ends_within(qemu, TERMINATION_LIMIT)? {
            let _ = qemu.kill();
        }
        let status = progress::wait(qemu, "QEMU to end", TERMINATION_LIMIT)?;
        Ok((status, cut_short))
    }
}

impl Machine {
    /// The memory in bytes. None for what QEMU will refuse, in its own words.
    pub fn memory_bytes(&self) -> Option<u64> {
        let text = self.memory.as_deref().unwrap_or(DEFAULT_MEMORY).trim_end_matches(['b', 'B']);
        let (number, shift) = match text.char_indices().last()? {
            (at, 'k' | 'K') => (&text[..at], 10),
            (at, 'm' | 'M') => (&text[..at], 20),
            (at, 'g' | 'G') => (&text[..at], 30),
            (at, 't' | 'T') => (&text[..at], 40),
            _ => (text, 20),
        };
        number.parse::<u64>().ok()?.checked_mul(1 << shift)
    }

    fn arguments(&self) -> Vec<OsString> {
        let machine = match self.machine {
            MachineType::Microvm => "microvm",
            MachineType::Q35 => "q35",
        };
        let accel = match self.accel {
            Accelerator::Tcg => "tcg",
            Accelerator::Kvm => "kvm",
        };
        let smp = self.smp.to_string();
        let mut arguments: Vec<OsString> = [
            "-M",
            machine,
            "-accel",
            accel,
            "-cpu",
            &self.cpu,
            "-m",
            self.memory.as_deref().unwrap_or(DEFAULT_MEMORY),
            "-smp",
            &smp,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]
        .map(OsString::from)
        .to_vec();
        if let Some(icount) = &self.icount {
            arguments.extend(["-icount".into(), icount.into()]);
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// QEMU's ends of the sockets behind its character devices.
#[derive(Default)]
struct Ports(Vec<OwnedFd>);

impl Ports {
    /// Adds a character device named `id` to the command line, and gives this end of it.
    fn chardev(&mut self, command: &mut Command, id: &str) -> Result<File> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
        command.arg("-chardev").arg(format!("socket,id={id},fd={}", theirs.as_raw_fd()));
        self.0.push(theirs.into());
        Ok(File::from(OwnedFd::from(ours)))
    }

    /// Starts QEMU with these sockets. It ends when the calling thread does, whatever the reason.
    ///
    /// Takes the command, which keeps QEMU's ends of the sockets open: only without it do ours see QEMU's end.
    fn spawn(self, mut command: Command) -> Result<Child> {
        let sockets = self.0;
        let before_exec = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            for socket in &sockets {
                rustix::io::fcntl_setfd(socket, FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made: nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(before_exec) };
        let child = command.stderr(Stdio::piped()).spawn();
        child.with_context(|| format!("cannot start {command:?}; is QEMU installed? (apt-get install qemu-system-x86)"))
    }
}

/// Messages of QEMU that say nothing new: every CPU model but `max` brings the first under TCG; the second is our doing.
const NOISE: [&str; 2] = ["warning: TCG doesn't support requested feature", "terminating on signal 15"];

/// QEMU's messages, without the noise.
fn forward_errors(qemu: &mut Child) -> Option<JoinHandle<()>> {
    let pipe = qemu.stderr.take()?;
    Some(thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if !NOISE.iter().any(|noise| line.contains(noise)) {
                eprintln!("{line}");
            }
        }
    }))
}

/// What is done with the kernel's log.
struct Logger {
    log: Capture,
    verbose: bool,
    input_ready: Option<Sender<()>>,
    /// The line after which the log begins.
    start: Option<&'static [u8]>,
}

impl Logger {
    /// Collects the log until QEMU ends.
    fn collect(mut self, port: File, events: Sender<Event>) -> JoinHandle<()> {
        thread::spawn(move || {
            let mut port = BufReader::new(port);
            let mut line = Vec::new();
            while let Ok(1..) = port.read_until(b'\n', &mut line) {
                if let Some(start) = self.start {
                    if line.ends_with(start) {
                        self.start = None;
                    }
                    line.clear();
                    continue;
                }
                let _ = events.send(Event::Log);
                self.log.write_all(&line).expect("memory can be written");
                if self.verbose {
                    let _ = std::io::stderr().write_all(&line);
                }
                if line.ends_with(INPUT_READY)
                    && let Some(ready) = self.input_ready.take()
                {
                    let _ = ready.send(());
                }
                line.clear();
            }
            let _ = events.send(Event::Ended);
        })
    }
}

fn copy_output(mut port: File, mut output: Box<dyn Write + Send>, events: Sender<Event>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 16384];
        while let Ok(length @ 1..) = port.read(&mut buffer) {
            if output.write_all(&buffer[..length]).and_then(|()| output.flush()).is_err() {
                let _ = events.send(Event::OutputClosed);
                return;
            }
            let _ = events.send(Event::Output);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_qemu_reads_it() {
        let bytes = |text: &str| {
            let memory = Some(text.to_owned());
            Machine { memory, ..Machine::default() }.memory_bytes()
        };
        assert_eq!(Machine::default().memory_bytes(), Some(256 << 20));
        assert_eq!((bytes("64M"), bytes("64")), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((bytes("2G"), bytes("512k")), (Some(2 << 30), Some(512 << 10)));
        assert_eq!((bytes("much"), bytes("")), (None, None));
    }
}
