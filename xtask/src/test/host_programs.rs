//! Suite `host-programs`: the commands of docs/programs.md, in the reference kernel and on the host: same output, same standard error,
//! same exit code.
//!
//! The page is the list. A command is `./x run OPTIONS -- PROGRAM ARGUMENTS`: the guest's side runs it as it stands, the host's side runs
//! what follows `--`, as root of an empty home and temporary directory. A line before it is run on the host first.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::guest::chosen;
use super::report::Report;
use crate::run::environment;
use crate::{emulator, kernel, program, repository, setup};

/// The list.
const PAGE: &str = "docs/programs.md";

/// The heading of the commands that run with `--all`, or by name.
const LONG: &str = "## With `--all`";

/// What a section says of a command that asks more of the host than to be root: a container may refuse it.
const NAMESPACES: &str = "The host has to allow namespaces";

/// Where programs are looked for, on both sides: what Debian installs, and no version manager's.
const SEARCHED: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

/// How long one program may take in the guest, in seconds.
const LIMIT: &str = "300";

/// How long one may take on the host, in seconds.
const HOST_LIMIT: &str = "60";

/// So many run at once.
const AT_ONCE: usize = 2;

/// A section of the page.
#[derive(Debug, PartialEq)]
struct Entry {
    name: String,
    packages: Vec<String>,
    /// Runs with `--all` only.
    long: bool,
    /// The host has to allow namespaces.
    namespaces: bool,
    /// What the host's shell runs first.
    preparation: Option<String>,
    /// What `./x run` is given before `--`.
    options: Vec<String>,
    /// What it is given after.
    words: Vec<String>,
}

/// The page's sections with a command.
fn entries(page: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut long = false;
    let mut sections = page.split("\n### ");
    long |= sections.next().is_some_and(|before| before.contains(LONG));
    for section in sections {
        let (name, rest) = section.split_once('\n').context("a section without text")?;
        entries.push(entry(name, rest, long).with_context(|| format!("{PAGE}, {name}"))?);
        long |= section.contains(LONG);
    }
    Ok(entries)
}

fn entry(name: &str, section: &str, long: bool) -> Result<Entry> {
    let (text, rest) = section.split_once("```sh\n").context("there is no command")?;
    let (block, _) = rest.split_once("\n```").context("the command has no end")?;
    let (preparation, command) = match block.split_once('\n') {
        Some((first, command)) if !first.starts_with("./x ") => (Some(first.to_owned()), command),
        _ => (None, block),
    };
    let (list, leans_on) = text.split_once(": ").context("it does not say `Package NAME: what it leans on`")?;
    ensure!(
        list.trim_start().starts_with("Package") && !leans_on.trim().is_empty(),
        "it does not begin with its package"
    );
    let packages = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let words = shlex::split(command).context("the command's quotes do not match")?;
    let mut parts = words.splitn(2, |word| word == "--");
    let before = parts.next().unwrap_or_default().strip_prefix(&["./x".to_owned(), "run".to_owned()][..]);
    let options = before.context("the command is no `./x run`")?.to_vec();
    let words = parts.next().filter(|words| !words.is_empty()).context("the command has no program")?.to_vec();
    let namespaces = text.contains(NAMESPACES);
    Ok(Entry { name: name.to_owned(), packages, long, namespaces, preparation, options, words })
}

/// Runs these, or those of the ordinary run, or all.
pub fn run(only: &[String], all: bool, report: &mut Report) -> Result<()> {
    let page = fs::read_to_string(repository(PAGE))?;
    let kernel = kernel::build()?;
    let mut waiting = VecDeque::new();
    let mut left_out = 0;
    for entry in entries(&page)?.into_iter().filter(|entry| chosen(only, &entry.name)) {
        if entry.long && !all && only.is_empty() {
            left_out += 1;
            continue;
        }
        match entry.missing()? {
            Some(reason) => report.skip(&format!("host-programs/{}", entry.name), &reason),
            None => waiting.push_back(entry),
        }
    }
    if left_out > 0 {
        report.skip(&format!("host-programs: {left_out} more"), "they take longer and run with --all");
    }
    let waiting = Mutex::new(waiting);
    let report = Mutex::new(report);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.pop_front());
                    let Some(entry) = next else { return };
                    let outcome = entry.compare(&kernel).map_err(|error| format!("{error:#}"));
                    if let Ok(mut report) = report.lock() {
                        report.outcome(&format!("host-programs/{}", entry.name), outcome);
                    }
                }
            });
        }
    });
    Ok(())
}

impl Entry {
    /// What this host lacks for it.
    fn missing(&self) -> Result<Option<String>> {
        for package in &self.packages {
            let mut query = Command::new("dpkg-query");
            let installed = query.args(["-W", "-f", "${db:Status-Abbrev}", package]).stderr(Stdio::null()).output();
            if !installed.is_ok_and(|output| output.stdout.starts_with(b"ii")) {
                return Ok(Some(format!("{package} is not installed (apt-get install {package})")));
            }
        }
        if !rustix::process::geteuid().is_root() {
            return Ok(Some("the guest's programs run as root, and so have the host's to do".to_owned()));
        }
        let refused = self.namespaces && !setup::succeeds(Command::new("unshare").args(["--mount", "--uts", "true"]));
        Ok(refused.then(|| "this host does not allow namespaces".to_owned()))
    }

    fn compare(&self, kernel: &Path) -> Result<()> {
        if let Some(line) = &self.preparation {
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", line]).current_dir(repository("")).stdin(Stdio::null()).output()?;
            ensure!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
        }
        let host = self.on_host()?;
        let guest = self.in_guest(kernel)?;
        if host == guest {
            return Ok(());
        }
        bail!("host:\n{host}\nguest:\n{guest}")
    }

    fn on_host(&self) -> Result<Behaviour> {
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let program = program::which_in(&self.words[0], SEARCHED.as_ref());
        let program = std::path::absolute(program.with_context(|| format!("there is no {}", self.words[0]))?)?;
        let mut command = Command::new("/usr/bin/env");
        // In a session of its own, as in the guest: no terminal, and no group with this program in it.
        command.args(["--default-signal", "setsid", "--wait", "timeout", "--foreground", HOST_LIMIT]);
        command.arg(program).args(&self.words[1..]);
        let variables = environment();
        let variables = variables.iter().filter_map(|variable| variable.split_once('='));
        command.env_clear().envs(variables).env("PATH", SEARCHED);
        command.env("HOME", scratch.path()).env("TMPDIR", scratch.path()).current_dir("/");
        Ok(Behaviour::of(&command.stdin(Stdio::null()).output()?))
    }

    fn in_guest(&self, kernel: &Path) -> Result<Behaviour> {
        let mut command = Command::new(std::env::current_exe()?);
        emulator::pass_on(&mut command);
        command.arg("run").arg("--kernel").arg(kernel).args(["--smp", "2", "--timeout", LIMIT]);
        command.args(&self.options).arg("--").args(&self.words).env("PATH", SEARCHED);
        Ok(Behaviour::of(&command.stdin(Stdio::null()).output()?))
    }
}

/// What a program printed, and how it ended.
#[derive(PartialEq)]
struct Behaviour {
    output: Vec<u8>,
    errors: Vec<u8>,
    code: i32,
}

impl Behaviour {
    fn of(output: &Output) -> Behaviour {
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
        // What `./x` itself has to say stands between the program's lines.
        let own = |line: &&[u8]| !line.starts_with(b"x: ");
        let errors: Vec<&[u8]> = output.stderr.split_inclusive(|&byte| byte == b'\n').filter(own).collect();
        Behaviour { output: output.stdout.clone(), errors: errors.concat(), code }
    }
}

impl std::fmt::Display for Behaviour {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "exit code {}\n{}", self.code, String::from_utf8_lossy(&self.output))?;
        write!(f, "standard error:\n{}", String::from_utf8_lossy(&self.errors))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_lists_programs() {
        let page = fs::read_to_string(repository(PAGE)).unwrap();
        let entries = entries(&page).unwrap();
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), entries.len(), "two have one name");
        assert!(names.len() >= 30, "{names:?}");
        assert!(entries.iter().any(|entry| entry.long) && entries.iter().any(|entry| !entry.long));
        for entry in &entries {
            assert!(!entry.packages.is_empty(), "{} names no package", entry.name);
        }
    }

    #[test]
    fn a_section_is_read() {
        let page = "# Title\n\n### a\n\nPackages `p`, `q`: something.\n\n```sh\n./x run --with /b -- c 'd\ne' -- f\n```\n\n\
                    ## With `--all`\n\n### g\n\nPackage `r`: more. The host has to allow namespaces.\n\n```sh\nmake h\n./x run -- h\n```\n";
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found = entries(page).unwrap();
        assert_eq!(found[0].options, words("--with /b"));
        assert_eq!(found[0].words, ["c", "d\ne", "--", "f"]);
        assert_eq!((found[0].packages.clone(), found[0].long, found[0].namespaces), (words("p q"), false, false));
        assert_eq!((found[1].name.as_str(), found[1].long, found[1].namespaces), ("g", true, true));
        assert_eq!((&found[0].preparation, found[1].preparation.as_deref()), (&None, Some("make h")));
        assert!(entries("\n### a\n\nPackage `p`: x\n\n```sh\n./x test\n```\n").is_err());
        assert!(entries("\n### a\n\n```sh\n./x run -- a\n```\n").is_err());
    }
}
