//! Sessions with dynamically linked programs of the host, in the reference kernel: a shell, `ls`, Python, the debuggers,
//! and stress-ng, whose output must have what it has on Linux.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::guest::chosen;
use super::report::Report;
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::linux::stress::{self, STRESS_NG, STRESSORS};
use crate::program::Program;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::repository;
use crate::run::{environment, log_tail};
use crate::setup::{self, Need};

/// How long one session may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Python; the suite `run` has it, too.
pub const PYTHON: Need =
    Need { what: "Python", packages: &["python3"], found: || Path::new("/usr/bin/python3").exists() };

/// strace; the suite `run` has it, too.
pub const STRACE: Need =
    Need { what: "strace", packages: &["strace"], found: || Path::new("/usr/bin/strace").exists() };

/// gdb; the suite `run` has it, too.
pub const GDB: Need = Need { what: "gdb", packages: &["gdb"], found: || Path::new("/usr/bin/gdb").exists() };

/// The programs that not every Debian has.
const PROGRAMS: [Need; 4] = [STRESS_NG, PYTHON, STRACE, GDB];

/// One program, its arguments, and what comes of it.
struct Session {
    name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    /// Further files of the host that it reads; those that are missing are left out.
    with: Vec<PathBuf>,
    /// Lines that the output has, in this order, maybe with others in between; each as a part of a line.
    expected: &'static [&'static str],
    code: i32,
}

/// Runs these, or all.
pub fn run(only: &[String], report: &mut Report, kernel: &Path) -> Result<()> {
    setup::ensure(&PROGRAMS)?;
    for session in sessions()?.into_iter().filter(|session| chosen(only, session.name)) {
        let outcome = session.run(kernel).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("programs/{}", session.name), outcome);
    }
    Ok(())
}

fn sessions() -> Result<Vec<Session>> {
    let words = |text: &[&str]| text.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let paths = |text: &[&str]| text.iter().map(PathBuf::from).collect::<Vec<_>>();
    let debuggee = compile_debuggee()?;
    let script = repository("tests/programs/sessions/gdb.txt");
    let shown = |path: &Path| path.display().to_string();
    let debuggee_path = shown(&debuggee);
    let mut debugger_files = paths(&["/usr/share/gdb", "/usr/lib/python3.11", "/usr/lib/x86_64-linux-gnu/gconv"]);
    debugger_files.extend([debuggee, script.clone(), repository("tests/programs/sessions/debuggee.c")]);
    Ok(vec![
        Session {
            name: "bash",
            program: "/usr/bin/bash",
            arguments: words(&[
                "-c",
                "for n in {1..3}; do echo \"line $n\"; done | while read -r l; do echo \"<$l>\"; done; \
                 trap 'echo caught' USR1; kill -USR1 $$; (exit 4) & wait $!; echo $?; exit 5",
            ]),
            with: Vec::new(),
            expected: &["<line 1>", "<line 2>", "<line 3>", "caught", "4"],
            code: 5,
        },
        Session {
            name: "ls",
            program: "/usr/bin/ls",
            arguments: words(&["-la", "/"]),
            with: Vec::new(),
            expected: &["root root", " bin", " proc", " tmp"],
            code: 0,
        },
        Session {
            name: "python",
            program: "/usr/bin/python3.11",
            arguments: words(&[
                "-c",
                "import threading, subprocess\n\
                 threads = [threading.Thread(target=print, args=(n,)) for n in range(3)]\n\
                 for thread in threads: thread.start(); thread.join()\n\
                 print(subprocess.run(['/bin/busybox', 'echo', 'child'], capture_output=True).stdout)",
            ]),
            with: paths(&["/usr/lib/python3.11"]),
            expected: &["0", "1", "2", "b'child\\n'"],
            code: 0,
        },
        Session {
            name: "strace",
            program: "/usr/bin/strace",
            arguments: words(&["-f", "/bin/sh", "-c", "busybox ls /; true"]),
            with: Vec::new(),
            expected: &[
                "execve(\"/bin/sh\"",
                "[pid ",
                "getdents64(",
                "exit_group(0)",
                "+++ exited with 0 +++",
                "wait4",
                "+++ exited with 0 +++",
            ],
            code: 0,
        },
        Session {
            name: "gdb",
            program: "/usr/bin/gdb",
            arguments: words(&["-batch", "-nx", "-x", &shown(&script), &debuggee_path]),
            with: debugger_files,
            expected: &[
                "Breakpoint 1, main () at",
                "add(1);",
                "add (n=1)",
                "#0  add (n=1)",
                "in main () at",
                "Hardware watchpoint 2: counter",
                "Old value = 0",
                "New value = 1",
                "Old value = 1",
                "New value = 3",
                "#0  add (n=2)",
                "counter 3",
                "exited with code 03",
            ],
            code: 0,
        },
        Session {
            name: "stress-ng",
            program: "/usr/bin/stress-ng",
            arguments: stress::arguments(&STRESSORS, 10),
            with: Vec::new(),
            expected: &["dispatching hogs", "successful run completed"],
            code: 0,
        },
    ])
}

impl Session {
    fn run(&self, kernel: &Path) -> Result<()> {
        let program = Program::find(self.program)?;
        let mut root = Initramfs::busybox()?;
        for path in self.with.iter().filter(|path| path.exists()) {
            root.host(path)?;
        }
        root.program(&program)?;
        let mut argv = vec![self.program.to_owned()];
        argv.extend(self.arguments.iter().cloned());
        root.argv(&argv).env(&environment()).symbols_of(kernel)?;
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let initrd = scratch.path().join("initramfs.cpio");
        root.write(&initrd)?;

        let machine = Machine { smp: 2, memory: Some("768M".to_owned()), ..Machine::default() };
        let mut boot = Boot::new(machine, kernel);
        boot.initrd = Some(initrd);
        boot.append = "stdin=stream".to_owned();
        boot.timeout = Some(LIMIT);
        let output = Capture::default();
        let outcome = boot.run(Console::capture(&output))?;
        let text = output.text();
        match outcome.ending {
            Ending::Exit(code) if code == self.code => {}
            Ending::Exit(code) => bail!("exit code {code} and not {}\n{}", self.code, log_tail(&text)),
            ending => bail!("no exit code: {ending:?}\n{}\n{}", log_tail(&text), log_tail(&outcome.log)),
        }
        match missing(&text, self.expected) {
            None => Ok(()),
            Some(line) => bail!("`{line}` is not in its output, or not in its place\n{}", log_tail(&text)),
        }
    }
}

/// The first of `expected` that the lines of `text` do not have, in this order.
fn missing<'a>(text: &str, expected: &[&'a str]) -> Option<&'a str> {
    let mut rest = text;
    for &part in expected {
        let Some(at) = rest.find(part) else {
            return Some(part);
        };
        rest = &rest[at + part.len()..];
    }
    None
}

fn compile_debuggee() -> Result<PathBuf> {
    let directory = repository("target/programs");
    fs::create_dir_all(&directory)?;
    let program = directory.join("debuggee");
    let mut command = Command::new("gcc");
    command
        .args(["-g", "-O0", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(repository("tests/programs/sessions/debuggee.c"));
    let status = command.stdin(Stdio::null()).status().context("cannot start gcc")?;
    if !status.success() {
        bail!("the debuggee could not be compiled ({status}); tried {command:?}");
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_parts_come_in_order() {
        assert_eq!(missing("one\ntwo\nthree\n", &["one", "three"]), None);
        assert_eq!(missing("one\ntwo\nthree\n", &["three", "one"]), Some("one"));
    }
}
