//! docs/gdb.md, given to gdb: its commands, and whether gdb says what the page says.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::sessions::GDB;
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::run::{environment, log_tail};
use crate::{progress, repository, setup};

/// The page.
const PAGE: &str = "docs/gdb.md";

/// What the page has where it leaves something out: part of a line, or lines if it stands alone.
const LEFT_OUT: &str = "…";

/// What stands before the output of a command.
const MARK: &str = "@@ output";

/// How long the guest may run.
const LIMIT: Duration = Duration::from_secs(60);

/// A command of the page, and what gdb said.
#[derive(Debug, PartialEq)]
struct Step<'a> {
    command: &'a str,
    said: Vec<&'a str>,
}

/// The commands in the page's blocks `gdb`.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```gdb" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("(gdb) "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command, said: Vec::new() }),
                (None, Some(step)) => step.said.push(line),
                (None, None) => {}
            },
        }
    }
    steps
}

/// Whether a line is what the page has, but for what that leaves out.
fn is_like(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split(LEFT_OUT);
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The first line of the page that the output lacks.
fn missing<'a>(output: &[&str], wanted: &[&'a str]) -> Option<&'a str> {
    let mut lines = output.iter().peekable();
    let mut skip = false;
    for wanted in wanted {
        if *wanted == LEFT_OUT {
            skip = true;
            continue;
        }
        while skip && lines.peek().is_some_and(|line| !is_like(line, wanted)) {
            lines.next();
        }
        if !lines.next().is_some_and(|line| is_like(line, wanted)) {
            return Some(wanted);
        }
        skip = false;
    }
    None
}

/// Boots the kernel as the page does, gives gdb its commands, and compares.
pub fn replay(kernel: &Path) -> Result<()> {
    setup::ensure(&[GDB])?;
    let page = fs::read_to_string(repository(PAGE)).context(PAGE)?;
    let steps = steps(&page);
    ensure!(steps.len() > 10, "{PAGE} has {} commands", steps.len());
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let socket = scratch.path().join("gdb");
    let boot = boot(kernel, scratch.path(), &socket)?;
    let output = Capture::default();
    let console = Console::capture(&output);
    let (sender, outcome) = mpsc::channel();
    // Not joined if gdb fails: the emulator has a time limit.
    thread::spawn(move || sender.send(boot.run(console)));
    // The socket is there when the emulator is.
    drop(portcullis_testkit::gdb::connect(&socket)?);

    let mut script = format!("set pagination off\nset confirm off\nset width 0\ntarget remote {}\n", socket.display());
    for step in &steps {
        script += &format!("echo \\n{MARK}\\n\n{}\n", step.command);
    }
    let commands = scratch.path().join("commands");
    fs::write(&commands, script)?;
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-x"]).arg(&commands).arg(kernel).stdin(Stdio::null());
    let said = progress::output(&mut gdb)?;
    let text = String::from_utf8_lossy(&said.stdout);
    let errors = String::from_utf8_lossy(&said.stderr);
    let outputs: Vec<Vec<&str>> = text
        .split(&format!("\n{MARK}\n"))
        .skip(1)
        .map(|part| part.lines().filter(|line| !line.is_empty()).collect())
        .collect();
    for (index, step) in steps.iter().enumerate() {
        let output = outputs.get(index).with_context(|| format!("gdb ended before `{}`:\n{errors}", step.command))?;
        if let Some(line) = missing(output, &step.said) {
            anyhow::bail!("`{}` does not say `{line}` but:\n{}\n{errors}", step.command, output.join("\n"));
        }
    }
    let outcome = outcome.recv().context("the boot did not end")??;
    let text = output.text();
    ensure!(
        matches!(outcome.ending, Ending::Exit(0)) && text.contains("hello"),
        "the program ended with {:?}\n{text}\n{}",
        outcome.ending,
        log_tail(&outcome.log)
    );
    Ok(())
}

/// As `./x run --gdb -- /bin/busybox echo hello`, but for the port, which is a socket of our own.
fn boot(kernel: &Path, scratch: &Path, socket: &Path) -> Result<Boot> {
    let mut root = Initramfs::busybox()?;
    root.argv(&["/bin/busybox", "echo", "hello"]).env(&environment()).symbols_of(kernel)?;
    let initrd = scratch.join("initramfs.cpio");
    root.write(&initrd)?;
    let mut machine = Machine::default();
    let socket = format!("unix:{},server=on,wait=off", socket.display());
    machine.extra.extend(["-gdb".into(), socket.into(), "-S".into()]);
    let mut boot = Boot::new(machine, kernel);
    boot.initrd = Some(initrd);
    boot.append = "stdin=stream".to_owned();
    boot.timeout = Some(LIMIT);
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_what_gdb_said_are_told_apart() {
        let page = "(gdb) no\n```gdb\n(gdb) a\nx\n…\n```\ntext\n```gdb\n(gdb) b\n```\n";
        assert_eq!(steps(page), [Step { command: "a", said: vec!["x", "…"] }, Step { command: "b", said: Vec::new() }]);
    }

    #[test]
    fn lines_are_compared_but_for_what_is_left_out() {
        assert!(is_like("#10 f<K> () at /a/b.rs:12", "#…f<K> () at …b.rs:…"));
        assert!(!is_like("#10 f<K> () at /a/c.rs:12", "#…f<K> () at …b.rs:…"));
        assert!(is_like("cs 0x10", "cs 0x10") && !is_like("cs 0x10 16", "cs 0x10") && !is_like("cs 0x33", "cs 0x…0"));
        assert_eq!(missing(&["a", "b", "c"], &["a", "b"]), None);
        assert_eq!(missing(&["a", "b", "c"], &["a", "c"]), Some("c"));
        assert_eq!(missing(&["a", "b", "c"], &["…", "c", "…"]), None);
        assert_eq!(missing(&["a"], &["…", "d"]), Some("d"));
    }
}
