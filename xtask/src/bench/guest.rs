//! One boot of one kernel with the measuring program as its first program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use portcullis_testkit::qmp::Qmp;
use serde_json::Value;

/// A kernel and what it is booted with.
pub struct Guest<'a> {
    /// The bootable file for `qemu -kernel`.
    pub kernel: &'a Path,
    /// The kernel command line.
    pub append: &'a str,
    /// The initramfs, as a file.
    pub initrd: &'a Path,
    /// The CPU model, as `qemu -cpu` takes it.
    pub cpu: &'a str,
    /// Where QEMU puts its socket and its logs.
    pub directory: &'a Path,
}

/// What the program says of one row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Executed instructions of one crossing: the minimum.
    pub instructions: Option<u64>,
    /// Why there is no number.
    pub missing: Option<String>,
}

/// One line of the program.
enum Line {
    Row(String, Row),
    /// A fact about the kernel, from its test device.
    Status(String, String),
    /// It waits for NMIs, or for a profiler.
    Ready,
    Done,
}

impl Line {
    /// `None` for what else is on the console.
    fn parse(text: &str) -> Option<Line> {
        let object: Value = serde_json::from_str(text.trim()).ok()?;
        let string = |key: &str| object.get(key)?.as_str().map(str::to_owned);
        let line = if let Some(row) = string("row") {
            let instructions = object.get("instructions").and_then(Value::as_u64);
            Line::Row(row, Row { instructions, missing: string("missing") })
        } else if let Some(key) = string("status") {
            Line::Status(key, string("value")?)
        } else if object.get("ready").is_some() {
            Line::Ready
        } else {
            object.get("done")?;
            Line::Done
        };
        Some(line)
    }
}

/// What one boot told.
#[derive(Default)]
pub struct Outcome {
    /// Row by row.
    pub rows: BTreeMap<String, Row>,
    /// What the test device `/dev/gate` says, where the kernel has one.
    pub status: BTreeMap<String, String>,
}

/// Longest time for one boot with all its rows; about ten times what two cores of 2020 take.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Between two NMIs: some timer ticks of emulated time, so that most NMIs are far from a tick.
const NMI_INTERVAL: Duration = Duration::from_millis(50);
/// Before the first NMI: the program finds the tick's rhythm first.
const NMI_DELAY: Duration = Duration::from_millis(300);

/// Longest time for a boot to the prompt of a shell.
const BOOT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running QEMU, its console line by line, and its control socket. Dropping it ends QEMU.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// The control socket.
    pub qmp: Qmp,
    socket: PathBuf,
    debug_log: PathBuf,
}

impl Guest<'_> {
    /// The machine both kernels get. `extra` are options such as instruction counting.
    pub fn command(&self, extra: &[&str]) -> Command {
        let mut qemu = Command::new(crate::emulator::qemu());
        qemu.args(["-M", "microvm", "-accel", "tcg", "-m", "256M", "-smp", "1", "-cpu", self.cpu])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(["-device", "isa-debugcon,iobase=0xe9,chardev=log", "-append", self.append])
            .arg("-chardev")
            .arg(format!("file,id=log,path={}", self.debug_log().display()))
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initrd)
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // QEMU warns about each feature of the CPU model that TCG lacks.
            .stderr(Stdio::null());
        qemu
    }

    fn debug_log(&self) -> PathBuf {
        self.directory.join("kernel.log")
    }

    /// Starts QEMU. Sockets have short names at most, so that one is not in the project's directory.
    pub fn start(&self, extra: &[&str]) -> Result<Running> {
        let socket = std::env::temp_dir().join(format!("portcullis-bench-{}.sock", std::process::id()));
        let mut child = self
            .command(extra)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .spawn()
            .context("cannot start qemu-system-x86_64: apt-get install qemu-system-x86")?;
        let console = child.stdout.take().context("QEMU's console is a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        match Qmp::connect(&socket) {
            Ok(qmp) => Ok(Running { child, lines, qmp, socket, debug_log: self.debug_log() }),
            Err(error) => {
                let _ = child.kill();
                let _ = crate::progress::end(&mut child);
                Err(error)
            }
        }
    }

    /// Boots, counting instructions, until the program has measured its rows.
    pub fn measure(&self) -> Result<Outcome> {
        let mut running = self.start(&["-icount", "shift=0,sleep=off"])?;
        let deadline = Instant::now() + TIMEOUT;
        let mut outcome = Outcome::default();
        let mut next_nmi: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if now > deadline {
                bail!("no result after {} s\n{}", TIMEOUT.as_secs(), running.last_words());
            }
            if next_nmi.is_some_and(|due| due <= now) {
                running.qmp.inject_nmi()?;
                next_nmi = Some(now + NMI_INTERVAL);
            }
            match running.next_line(next_nmi.unwrap_or(deadline))? {
                Some(Line::Row(name, row)) => {
                    next_nmi = None;
                    outcome.rows.insert(name, row);
                }
                Some(Line::Status(key, value)) => {
                    outcome.status.insert(key, value);
                }
                Some(Line::Ready) => next_nmi = Some(now + NMI_DELAY),
                Some(Line::Done) => return Ok(outcome),
                None => {}
            }
        }
    }
}

impl Running {
    /// The program's next line, or `None` when there is none by `until`. Other output of the console is passed over.
    fn next_line(&mut self, until: Instant) -> Result<Option<Line>> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(text) => Ok(Line::parse(&text)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest ended before its program did\n{}", self.last_words())
            }
        }
    }

    /// Waits until the program says that it has begun to make one crossing again and again.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if matches!(self.next_line(deadline)?, Some(Line::Ready)) {
                return Ok(());
            }
        }
        bail!("the program did not start\n{}", self.last_words())
    }

    /// The end of the kernel's own log: what it says when it goes wrong.
    fn last_words(&self) -> String {
        let log = fs::read(&self.debug_log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = crate::progress::end(&mut self.child);
        let _ = fs::remove_file(&self.socket);
    }
}

/// Wall-clock time from starting QEMU until a shell shows its prompt, the least of `boots`.
pub fn boot_to_prompt(guest: &Guest, boots: u32) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..boots {
        let started = Instant::now();
        let mut child = guest.command(&[]).spawn().context("cannot start qemu-system-x86_64")?;
        let mut console = child.stdout.take().context("QEMU's console is a pipe")?;
        // A reader of its own, so that a kernel that never shows a prompt ends in a message and not in a wait.
        let (sender, prompt) = channel();
        let reader = std::thread::spawn(move || {
            let (mut seen, mut byte) = (Vec::new(), [0]);
            while matches!(console.read(&mut byte), Ok(1)) {
                seen.push(byte[0]);
                if seen.ends_with(b"# ") {
                    let _ = sender.send(());
                    return;
                }
            }
        });
        let shown = prompt.recv_timeout(BOOT_TIMEOUT);
        let took = started.elapsed();
        let _ = child.kill();
        let _ = crate::progress::end(&mut child);
        let _ = reader.join();
        shown.with_context(|| format!("no prompt of a shell within {} s", BOOT_TIMEOUT.as_secs()))?;
        least = least.min(took);
    }
    Ok(least)
}
