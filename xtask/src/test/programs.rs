//! Suite `programs`: real programs, in the reference kernel and on the host, with the same output and exit code.
//!
//! `tests/programs/*.sh` run in busybox's shell; `tests/programs/*.c` are compiled statically against glibc and against
//! musl. Each starts in an empty directory with empty input; the host's result is what is expected, and must be a success.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::guest::chosen;
use super::report::Report;
use super::sessions;
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::run::{environment, log_tail};
use crate::{kernel, repository, setup};

/// How long one program may take in the guest.
const LIMIT: Duration = Duration::from_secs(600);

/// Where the guest finds the program.
const GUEST_PATH: &str = "/tests/program";

/// What a program printed and how it ended.
#[derive(Debug, PartialEq)]
struct Behaviour {
    output: String,
    code: i32,
}

/// Runs the suite: these tests, or all.
pub fn run(only: &[String], report: &mut Report) -> Result<()> {
    let kernel = kernel::build()?;
    let directory = repository("tests/programs");
    let mut sources: Vec<PathBuf> = fs::read_dir(&directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    sources.sort();
    for source in sources {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match source.extension().and_then(|extension| extension.to_str()) {
            Some("sh") if chosen(only, &stem) => {
                report.outcome(&format!("programs/{stem}"), compare(&kernel, &source, &["sh"]));
            }
            Some("c") => {
                let named = |compiler: &&str| chosen(only, &stem) || chosen(only, &format!("{stem}-{compiler}"));
                for compiler in ["gcc", "musl-gcc"].into_iter().filter(named) {
                    let outcome = compile(compiler, &source)
                        .map_err(|error| format!("{error:#}"))
                        .and_then(|program| compare(&kernel, &program, &[]));
                    report.outcome(&format!("programs/{stem}-{compiler}"), outcome);
                }
            }
            _ => {}
        }
    }
    sessions::run(only, report, &kernel)
}

fn compile(compiler: &str, source: &Path) -> Result<PathBuf> {
    let directory = repository("target/programs");
    fs::create_dir_all(&directory)?;
    let program = directory.join(format!("{}-{compiler}", source.file_stem().unwrap_or_default().display()));
    let mut command = Command::new(compiler);
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o"]).arg(&program).arg(source);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {compiler}"))?;
    if !status.success() {
        bail!("it could not be compiled ({status}); tried {command:?}");
    }
    Ok(program)
}

/// Whether `file`, run by the busybox applet `interpreter` if there is one, does in the guest what it does on the host.
fn compare(kernel: &Path, file: &Path, interpreter: &[&str]) -> Result<(), String> {
    let attempt = || -> Result<(Behaviour, Behaviour)> {
        Ok((on_host(file, interpreter)?, in_guest(kernel, file, interpreter)?))
    };
    let (host, guest) = attempt().map_err(|error| format!("{error:#}"))?;
    if host.code != 0 {
        return Err(format!("it fails on the host already, with {}:\n{}", host.code, host.output));
    }
    if host == guest {
        return Ok(());
    }
    Err(format!("{}{}", differing_code(&host, &guest), first_difference(&host.output, &guest.output)))
}

fn differing_code(host: &Behaviour, guest: &Behaviour) -> String {
    if host.code == guest.code { String::new() } else { format!("exit code {} and not {}; ", guest.code, host.code) }
}

fn first_difference(host: &str, guest: &str) -> String {
    let (mut expected, mut found) = (host.lines(), guest.lines());
    for number in 1.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (expected, found) if expected == found => {}
            (expected, found) => {
                return format!(
                    "output differs from line {number} on:\n  host:  {}\n  guest: {}",
                    expected.unwrap_or("(ended)"),
                    found.unwrap_or("(ended)")
                );
            }
        }
    }
    "same lines of output".to_owned()
}

/// Runs it on the host, with busybox's applets in PATH and nothing else.
fn on_host(file: &Path, interpreter: &[&str]) -> Result<Behaviour> {
    let busybox = setup::busybox().context("no static busybox on this machine")?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let (bin, work) = (scratch.path().join("bin"), scratch.path().join("work"));
    fs::create_dir(&work)?;
    fs::create_dir(&bin)?;
    let list = Command::new(&busybox).arg("--list").output().context("busybox --list")?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox").chain(["busybox"])
    {
        std::os::unix::fs::symlink(&busybox, bin.join(applet))?;
    }
    // One file for both streams: their lines must come in the order in which they were written.
    let output = scratch.path().join("output");
    let file_handle = fs::File::create(&output)?;
    // A shell can trap no signal that it was started with ignored, as everything in the background of a script is.
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal");
    if !interpreter.is_empty() {
        command.arg(&busybox).args(interpreter);
    }
    command.arg(file);
    let variables = environment();
    let variables = variables.iter().filter_map(|variable| variable.split_once('='));
    command.env_clear().envs(variables).env("PATH", &bin).current_dir(&work);
    let status = command.stdin(Stdio::null()).stdout(file_handle.try_clone()?).stderr(file_handle).status()?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default());
    Ok(Behaviour { output: String::from_utf8_lossy(&fs::read(&output)?).into_owned(), code })
}

/// Runs it in the guest, on two CPUs.
fn in_guest(kernel: &Path, file: &Path, interpreter: &[&str]) -> Result<Behaviour> {
    let mut root = Initramfs::busybox()?;
    root.copy(GUEST_PATH, file)?.directory("/tests/work");
    let mut variables = environment();
    variables.push("TMPDIR=/tests/work".to_owned());
    let program = [interpreter, &[GUEST_PATH]].concat().join(" ");
    root.argv(&["/bin/sh", "-c", &format!("cd /tests/work && exec {program}")]).env(&variables).symbols_of(kernel)?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;

    let mut boot = Boot::new(Machine { smp: 2, ..Machine::default() }, kernel);
    boot.initrd = Some(initrd);
    boot.append = "stdin=stream".to_owned();
    boot.timeout = Some(LIMIT);
    let output = Capture::default();
    let outcome = boot.run(Console::capture(&output))?;
    match outcome.ending {
        Ending::Exit(code) => Ok(Behaviour { output: output.text(), code }),
        ending => bail!("no exit code: {ending:?}\n{}\n{}", log_tail(&output.text()), log_tail(&outcome.log)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let text = first_difference("a\nb\nc\n", "a\nx\n");
        assert_eq!(text, "output differs from line 2 on:\n  host:  b\n  guest: x");
        assert!(first_difference("a\nb\n", "a\n").ends_with("host:  b\n  guest: (ended)"));
    }
}
