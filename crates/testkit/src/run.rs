//! Booting a kernel with the programs, and reading its console.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::gdb::{Debugger, RCX};
use crate::hosted::RUNNER;
use crate::programs::{pack, pack_root};
use crate::report::{MACHINE_ENDED, Report};
use crate::symbols::{Symbols, find_code};
use crate::tiers::{ALIVE, FREESTANDING, LAST_BYTES, Program, SYSRET};

/// In the command, the path of an archive of all programs.
const ARCHIVE: &str = "{programs}";

/// In the command, the path of one program.
const ONE: &str = "{program}";

/// How a kernel is run.
pub struct Run<'a> {
    /// The folder of the programs.
    pub programs: &'a Path,
    /// What the kernel prints when it ends a program.
    pub killed: Option<&'a str>,
    /// How long one boot may take.
    pub limit: Duration,
    /// The kernel's ELF file: its SYSRETs are watched.
    pub kernel: Option<&'a Path>,
    /// What boots the kernel and shows its console.
    pub command: &'a [OsString],
}

/// How many boots there may be: a kernel that dies of one program is booted again for the next ones.
const BOOTS: usize = 200;

/// How long a program of tier (b) or (c) may take, in seconds of the kernel's clock: the runner ends it then. The longest take some
/// seconds on a quiet machine.
const PROGRAM_LIMIT: u64 = 120;

impl Run<'_> {
    /// Boots until each program has run, and gives the consoles' log.
    ///
    /// # Errors
    ///
    /// When the command has no place for the programs or cannot be started, or a program is missing.
    pub fn log(&self, programs: &[&'static Program]) -> Result<String> {
        let watched = |program: &&Program| self.kernel.is_some() && program.name == LAST_BYTES;
        let mut log = String::new();
        // Not every compiler makes 32-bit programs.
        let is_there = |program: &&Program| {
            !(program.is_hosted() && program.is_32_bit()) || self.programs.join(program.name).exists()
        };
        let programs: Vec<&Program> = programs.iter().copied().filter(is_there).collect();
        if self.mentions(ARCHIVE) {
            let rest: Vec<&Program> = programs.iter().copied().filter(|program| !watched(program)).collect();
            self.run_archives(&rest, &mut log)?;
        } else {
            ensure!(self.mentions(ONE), "the command mentions neither {ARCHIVE} nor {ONE}");
            for program in programs.iter().filter(|program| !watched(program)) {
                let file = self.file(program)?;
                if program.is_hosted() {
                    // In the place of the runner.
                    log.push_str(&format!("=== {}\n", program.name));
                }
                log.push_str(&self.boot(ONE, &file, &[])?);
                log.push_str(MACHINE_ENDED);
            }
        }
        if let (Some(kernel), Some(program)) = (self.kernel, programs.iter().find(|program| watched(program))) {
            log.push_str(&self.watch_sysret(kernel, program)?);
            log.push_str(MACHINE_ENDED);
        }
        Ok(log)
    }

    pub(crate) fn file(&self, program: &Program) -> Result<PathBuf> {
        self.file_named(program.name)
    }

    fn file_named(&self, name: &str) -> Result<PathBuf> {
        let file = std::path::absolute(self.programs.join(name))?;
        ensure!(file.exists(), "there is no {}; `portcullis-testkit programs` makes it", file.display());
        Ok(file)
    }

    /// All programs in one boot, unless the kernel dies: those behind the one that it died of have the next boot.
    fn run_archives(&self, programs: &[&'static Program], log: &mut String) -> Result<()> {
        let mut rest = programs;
        for _ in 0..BOOTS {
            let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
            let archive = scratch.path().join("programs.cpio");
            let files = rest.iter().map(|program| self.file(program)).collect::<Result<Vec<_>>>()?;
            if rest.iter().any(|program| program.is_hosted()) {
                pack_root(&self.file_named(RUNNER)?, &files, PROGRAM_LIMIT, &archive)?;
            } else {
                pack(&files, &archive)?;
            }
            let text = self.boot(ARCHIVE, &archive, &[])?;
            log.push_str(&text);
            log.push_str(MACHINE_ENDED);
            let begun = |program: &&Program| {
                let word = if program.is_hosted() { "===" } else { "program" };
                text.lines().any(|line| line.trim() == format!("{word} {}", program.name))
            };
            match rest.iter().rposition(begun) {
                // It did not come to the last one.
                Some(at) if at + 1 < rest.len() => rest = &rest[at + 1..],
                _ => break,
            }
        }
        Ok(())
    }

    /// Runs the command with `file` in the place of `what`, until it ends or the time is up; what it prints.
    fn boot(&self, what: &str, file: &Path, more: &[OsString]) -> Result<String> {
        let mut child = self.start(what, file, more)?;
        wait(&mut child, self.limit)
    }

    fn start(&self, what: &str, file: &Path, more: &[OsString]) -> Result<Child> {
        let words: Vec<OsString> = self.command.iter().map(|word| replace(word, what, file)).collect();
        let (program, arguments) = words.split_first().context("there is no command")?;
        let mut command = Command::new(program);
        command.args(arguments).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start {}", program.display()))
    }

    /// Runs [`LAST_BYTES`] alone, and looks at RCX before each SYSRET: on Intel's processors one to an address that is not canonical
    /// faults in the kernel. The emulator's does not, so the kernel's death would not tell.
    fn watch_sysret(&self, kernel: &Path, program: &'static Program) -> Result<String> {
        /// SYSRET with the prefix that makes it return to 64-bit code.
        const CODE: &[u8] = &[0x48, 0x0f, 0x07];
        let sites = find_code(kernel, CODE)?;
        let symbols = Symbols::read(kernel)?;
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let socket = scratch.path().join("gdb");
        let mut child = self.start_watched(program, &scratch, &[("-gdb", &socket)])?;
        let end = Instant::now() + self.limit;
        let watcher = thread::spawn(move || watch(&socket, &sites, end));
        let text = wait(&mut child, self.limit)?;
        let seen = watcher.join().expect("the watcher does not panic");
        let line = match seen {
            Some((at, rcx)) => format!("not ok {SYSRET}: SYSRET to {rcx:#x} at {}", symbols.describe(at)),
            None => format!("ok {SYSRET}"),
        };
        Ok(insert(&text, program, &line))
    }

    /// Starts one program on a stopped machine with these of QEMU's interfaces.
    pub(crate) fn start_watched(
        &self,
        program: &'static Program,
        scratch: &TempDir,
        interfaces: &[(&str, &Path)],
    ) -> Result<Child> {
        let mut options: Vec<OsString> = vec!["-S".into()];
        for (option, socket) in interfaces {
            options.extend([option.into(), format!("unix:{},server=on,wait=off", socket.display()).into()]);
        }
        if self.mentions(ARCHIVE) {
            let archive = scratch.path().join("programs.cpio");
            pack(&[self.file(program)?, self.file(last())?], &archive)?;
            self.start(ARCHIVE, &archive, &options)
        } else {
            self.start(ONE, &self.file(program)?, &options)
        }
    }

    fn mentions(&self, what: &str) -> bool {
        self.command.iter().any(|word| word.to_string_lossy().contains(what))
    }
}

/// The log with the watcher's line behind the program's first.
pub(crate) fn insert(log: &str, program: &Program, line: &str) -> String {
    let begin = format!("program {}", program.name);
    let lines = log.lines().flat_map(|text| {
        let more = (text.trim() == begin).then_some(line);
        [Some(text), more].into_iter().flatten()
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn last() -> &'static Program {
    FREESTANDING.iter().find(|program| program.name == ALIVE).expect("it is in the list")
}

/// The place and RCX of the first SYSRET to an address that is not canonical.
fn watch(socket: &Path, sites: &[u64], end: Instant) -> Option<(u64, u64)> {
    let mut debugger = Debugger::connect(socket, end.saturating_duration_since(Instant::now())).ok()?;
    // Fails when the emulator has ended.
    while let Ok(at) = debugger.run_to_one_of(sites) {
        let rcx = debugger.register(RCX).ok()?;
        if !is_canonical(rcx) {
            let _ = debugger.detach();
            return Some((at, rcx));
        }
    }
    None
}

/// With 48 bits: the programs know of no more.
fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

fn replace(word: &OsStr, what: &str, file: &Path) -> OsString {
    match word.to_str() {
        Some(word) => word.replace(what, &file.to_string_lossy()).into(),
        None => word.to_owned(),
    }
}

/// Reads what a program prints until it ends or the time is up.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<String> {
    let mut output = child.stdout.take().context("its output is not there")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error counts.
        let _ = output.read_to_end(&mut bytes);
        bytes
    });
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > limit {
            // It may just have ended.
            let _ = child.kill();
            child.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let bytes = reader.join().expect("the reader does not panic");
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Run<'_> {
    /// Boots, and reads the log.
    ///
    /// # Errors
    ///
    /// Those of [`Run::log`].
    pub fn report(&self, programs: &[&'static Program]) -> Result<(String, Report)> {
        let log = self.log(programs)?;
        let report = Report::read(programs, &log, self.killed);
        Ok((log, report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_addresses_have_one_sign() {
        for address in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            assert!(is_canonical(address));
        }
        for address in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
            assert!(!is_canonical(address));
        }
    }

    #[test]
    fn the_program_takes_its_place_in_the_command() {
        let word = replace(OsStr::new("file={program}.bin"), ONE, Path::new("/tmp/numbers"));
        assert_eq!(word, "file=/tmp/numbers.bin");
    }
}
