//! Bochs: its machine, and the guest's ports.
//!
//! The guest boots from our own firmware ([`rom`]), which reads the kernel and the initramfs from a disk ([`disk`]). Bochs
//! counts instructions in place of time: [`INSTRUCTIONS_PER_SECOND`] are a second of the guest, and when it idles the clock
//! leaps to its next timer.
//!
//! | port | what Bochs has there |
//! | --- | --- |
//! | COM1 | a pipe, which loses nothing when its reader is slow; for a terminal, a pseudo-terminal |
//! | COM2 | a pseudo-terminal |
//! | COM3 | a pipe |
//! | 0xE9 | Bochs's standard output, after Bochs's own first lines and the firmware's |
//! | 0xF4 | nothing: the kernel ends by a triple fault, and the firmware, entered again, ends Bochs |

mod acpi;
mod disk;
mod install;
mod rom;

use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::thread::UnshareFlags;

use crate::emulator::{self, Started};

pub use install::install;

/// The CPU model if none is asked for: the newest one that Bochs has.
pub const DEFAULT_MODEL: &str = "arrow_lake";

/// How many instructions are a second of the guest's clock. Bochs executes ten times as many in a real one.
const INSTRUCTIONS_PER_SECOND: u32 = 50_000_000;

/// With a user at the terminal a second shall be about one.
const INSTRUCTIONS_PER_SECOND_AT_TERMINAL: u32 = 100_000_000;

/// How many instructions a CPU executes before the next one's turn.
const QUANTUM: u32 = 16;

/// A machine and what it boots.
pub struct Guest<'a> {
    /// A CPU model of Bochs.
    pub cpu: &'a str,
    /// Whether the model gets FRED. Debian's Bochs then says that it has it, and has not.
    pub fred: bool,
    /// The number of CPUs.
    pub smp: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// An ELF image with a PVH entry point.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initrd: Option<&'a Path>,
    /// Its command line.
    pub append: &'a str,
    /// Whether COM1 is for a terminal.
    pub terminal: bool,
    /// Whether COM3 is there.
    pub errors: bool,
}

/// Starts Bochs. It ends when the calling thread does, whatever the reason.
pub fn start(guest: &Guest) -> Result<Started> {
    let scratch = tempfile::Builder::new().prefix("portcullis-bochs-").tempdir()?;
    let directory = scratch.path();
    let rom = rom::write(directory)?;
    let image = directory.join("disk.img");
    disk::write(&image, guest)?;
    // Bochs wants a ROM for the display, whatever is in it.
    let display_rom = directory.join("display.bin");
    fs::write(&display_rom, [0; 512])?;

    let mut theirs: Vec<OwnedFd> = Vec::new();
    let mut pipe = || -> Result<(File, String)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let port = format!("mode=file, dev=/proc/self/fd/{}", writer.as_raw_fd());
        theirs.push(writer);
        Ok((File::from(reader), port))
    };
    let (com1, terminal, com1_port) = match guest.terminal {
        true => {
            let (ours, theirs, port) = pseudo_terminal()?;
            (ours, Some(theirs), port)
        }
        false => {
            let (ours, port) = pipe()?;
            (ours, None, port)
        }
    };
    let (com3, com3_port) = guest.errors.then(&mut pipe).transpose()?.unzip();
    let (com2, _, com2_port) = pseudo_terminal()?;
    let mut ports = format!("com1: enabled=1, {com1_port}\ncom2: enabled=1, {com2_port}\n");
    if let Some(port) = com3_port {
        writeln!(ports, "com3: enabled=1, {port}")?;
    }
    let configuration = directory.join("bochsrc");
    fs::write(&configuration, self::configuration(guest, &rom, &display_rom, &image, directory)? + &ports)?;

    let mut bochs = command()?;
    bochs.args(["-q", "-unlock", "-f"]).arg(&configuration);
    let messages = File::create(directory.join("messages"))?;
    bochs.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(messages);
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        for port in &theirs {
            rustix::io::fcntl_setfd(port, FdFlags::empty())?;
        }
        // Its display is a server of VNC on all interfaces: it gets a network of its own where that is allowed.
        // SAFETY: after fork there is one thread, and it keeps no socket.
        unsafe {
            let _ = rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)
                .or_else(|_| rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made: nothing is allocated and no lock is taken.
    unsafe { bochs.pre_exec(before_exec) };
    let mut child = bochs.spawn().with_context(|| format!("cannot start {bochs:?}"))?;
    // With it go Bochs's ends of the pipes: only then ours see Bochs's end.
    drop(bochs);
    let log = child.stdout.take().context("standard output is a pipe")?;
    Ok(Started {
        child,
        log: File::from(OwnedFd::from(log)),
        log_start: Some(rom::LOG_START),
        com1: Some(com1),
        terminal,
        com2,
        com3,
        scratch: Some(scratch),
    })
}

/// Bochs: the user's, or Debian's.
pub fn command() -> Result<Command> {
    match emulator::bochs() {
        Some(own) => Ok(Command::new(own)),
        None => Ok(install()?.command()),
    }
}

/// Bochs's configuration, without the serial ports.
fn configuration(guest: &Guest, rom: &Path, display_rom: &Path, image: &Path, directory: &Path) -> Result<String> {
    const MIB: u64 = 1 << 20;
    ensure!(guest.memory.is_multiple_of(MIB) && guest.memory > 0, "Bochs's memory is a number of MiB");
    let memory = guest.memory / MIB;
    let (cpu, smp, log) = (guest.cpu, guest.smp, directory.join("log"));
    let features = if guest.fred { ", add_features=\"fred, lkgs\"" } else { "" };
    let (instructions, clock) = match guest.terminal {
        true => (INSTRUCTIONS_PER_SECOND_AT_TERMINAL, "slowdown"),
        false => (INSTRUCTIONS_PER_SECOND, "none"),
    };
    Ok(format!(
        "config_interface: textconfig
display_library: rfb, options=\"timeout=0\"
plugin_ctrl: biosdev=0, speaker=0, parallel=0
memory: guest={memory}, host={memory}
romimage: file={}
vgaromimage: file={}
cpu: model={cpu}{features}, count={smp}, quantum={QUANTUM}, ips={instructions}, reset_on_triple_fault=1, cpuid_freq=none
clock: sync={clock}
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path={}, status=inserted
boot: disk
port_e9_hack: enabled=1
log: {}
panic: action=fatal
",
        rom.display(),
        display_rom.display(),
        image.display(),
        log.display(),
    ))
}

/// What Bochs said when it ended without the kernel's word: its panics, and a processor that shut down.
pub fn complaints(scratch: &Path) -> Vec<String> {
    let text: String =
        ["messages", "log"].iter().filter_map(|name| fs::read_to_string(scratch.join(name)).ok()).collect();
    text.lines().filter(|line| line.contains(">>PANIC<<") || line.contains("3rd (")).map(str::to_owned).collect()
}

/// A pseudo-terminal that changes no byte: our end, Bochs's, and the port there. Bochs opens its end itself; what is read at ours
/// while it is nowhere open is an error.
fn pseudo_terminal() -> Result<(File, OwnedFd, String)> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let theirs = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut modes = rustix::termios::tcgetattr(&theirs)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&theirs, rustix::termios::OptionalActions::Now, &modes)?;
    let name = PathBuf::from(name.to_string_lossy().into_owned());
    Ok((File::from(ours), theirs, format!("mode=term, dev={}", name.display())))
}
