//! Long steps, shown: a spinner with the step's last line of output on a terminal, plain lines elsewhere; and waits for
//! other programs, which all have a limit.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal};

/// How many lines of a failed step's output are shown.
const TAIL: usize = 15;

/// How long a step may take that names no limit: downloads over a slow line and builds of Linux included.
pub const LONG: Duration = Duration::from_secs(90 * 60);

/// How long building something of this repository may take, on a slow and busy machine, another build's end included.
pub const BUILD: Duration = Duration::from_secs(30 * 60);

/// How long a program may take that only looks something up.
pub const SHORT: Duration = Duration::from_secs(120);

/// How long is waited in silence; then what is waited for is said, and again after each [`REMINDER`].
const NOTICE: Duration = Duration::from_secs(20);
const REMINDER: Duration = Duration::from_secs(120);

/// How long a program may take to end after SIGTERM, and its pipes to close after its end.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until `child` ends, and says so when it takes long. After `limit` it is ended, and that is an error.
pub fn wait(child: &mut Child, what: &str, limit: Duration) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut notice = NOTICE;
    loop {
        let elapsed = start.elapsed();
        if ends_within(child, notice.min(limit).saturating_sub(elapsed))? {
            return Ok(child.wait()?);
        }
        if start.elapsed() >= limit {
            end(child)?;
            bail!("{what} took longer than {} s and was ended", limit.as_secs());
        }
        eprintln!("x: still waiting for {what} ({} s; at most {} s)", start.elapsed().as_secs(), limit.as_secs());
        notice += REMINDER;
    }
}

/// A child that another thread waits for, with a limit, while this one reads what it prints.
pub struct Guard(thread::JoinHandle<Result<ExitStatus>>);

impl Guard {
    /// Starts to wait.
    pub fn start(mut child: Child, what: &str, limit: Duration) -> Guard {
        let what = what.to_owned();
        Guard(thread::spawn(move || wait_silently(&mut child, &what, limit)))
    }

    /// How it ended.
    pub fn finish(self) -> Result<ExitStatus> {
        self.0.join().expect("the guard does not panic")
    }
}

fn wait_silently(child: &mut Child, what: &str, limit: Duration) -> Result<ExitStatus> {
    if !ends_within(child, limit)? {
        end(child)?;
        bail!("{what} took longer than {} s and was ended", limit.as_secs());
    }
    Ok(child.wait()?)
}

/// Whether `child` ends within that time. It is not reaped.
pub fn ends_within(child: &Child, limit: Duration) -> Result<bool> {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.try_into().context("a wait of seconds")?;
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends `child`: SIGTERM first, SIGKILL when that does not help.
pub fn end(child: &mut Child) -> Result<ExitStatus> {
    let _ = rustix::process::kill_process(Pid::from_child(child), Signal::TERM);
    if !ends_within(child, GRACE)? {
        child.kill()?;
    }
    Ok(child.wait()?)
}

/// Locks `file`, which another run may hold while it makes `what`.
pub fn lock(file: &File, what: &str) -> Result<()> {
    const POLL: Duration = Duration::from_millis(200);
    let start = Instant::now();
    let mut notice = Duration::from_secs(2);
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot lock {what}")),
        }
        if start.elapsed() > LONG {
            bail!("another ./x has been making {what} for {} s; is it still alive?", LONG.as_secs());
        }
        if start.elapsed() > notice {
            eprintln!("x: waiting for another ./x that makes {what} (at most {} s)", LONG.as_secs());
            notice += REMINDER;
        }
        thread::sleep(POLL);
    }
}

/// Runs `command` with this program's own output, at most for `limit`.
pub fn status(command: &mut Command, what: &str, limit: Duration) -> Result<ExitStatus> {
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    wait(&mut child, what, limit)
}

/// Runs `command` without input for what it prints, at most for [`SHORT`].
pub fn output(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let out = thread::spawn(move || read_all(out));
    let errors = thread::spawn(move || read_all(errors));
    let status = wait(&mut child, &shown, SHORT)?;
    Ok(Output {
        status,
        stdout: out.join().expect("a reader does not panic"),
        stderr: errors.join().expect("a reader does not panic"),
    })
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// Runs `command` without input, as the step that `title` names. Its output is shown only when it fails.
/// A step that takes longer than `limit` has failed.
pub fn step(title: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let start = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| spinner(title));
    if spinner.is_none() {
        eprintln!("x: {title} ...");
    }
    let outcome = watch(command, title, spinner.as_ref(), limit);
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let seconds = start.elapsed().as_secs_f32();
    match &outcome {
        Ok(()) => eprintln!("x: {title}: done in {seconds:.1} s"),
        Err(_) => eprintln!("x: {title}: failed after {seconds:.1} s"),
    }
    outcome
}

/// A line on the terminal that shows that something goes on, and its message.
pub fn spinner(title: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}").expect("a valid template");
    let spinner = ProgressBar::new_spinner().with_style(style).with_prefix(title.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn watch(command: &mut Command, title: &str, spinner: Option<&ProgressBar>, limit: Duration) -> Result<()> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let (open, closed) = mpsc::channel::<()>();
    let pipes: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
    for pipe in pipes.into_iter().flatten() {
        let (tail, spinner, open) = (tail.clone(), spinner.cloned(), open.clone());
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(spinner) = &spinner {
                    spinner.set_message(line.clone());
                }
                let mut tail = tail.lock().expect("no reader panics");
                tail.push_back(line);
                if tail.len() > TAIL {
                    tail.pop_front();
                }
            }
            drop(open);
        });
    }
    drop(open);
    let status = wait(&mut child, title, limit);
    // The rest of its output. Something that it left running may keep the pipes open: that is not waited for.
    let _ = closed.recv_timeout(GRACE);
    let how = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("{status}"),
        Err(error) => format!("{error:#}"),
    };
    let tail = tail.lock().expect("no reader panics").iter().map(|line| format!("\n    {line}")).collect::<String>();
    bail!("tried {shown}: {how}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_ended() {
        let limit = Duration::from_millis(100);
        let start = Instant::now();
        let mut sleep = Command::new("sleep");
        let error = status(sleep.arg("1000"), "a sleep", limit).unwrap_err();
        assert!(error.to_string().contains("a sleep took longer"), "{error}");
        // What ignores SIGTERM, and leaves a child with its pipes behind.
        let mut stubborn = Command::new("sh");
        stubborn.args(["-c", "trap '' TERM; sleep 30 & echo said; wait; wait"]);
        let error = step("a stubborn step", &mut stubborn, limit).unwrap_err();
        assert!(error.to_string().contains("said"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(29));
    }

    #[test]
    fn what_ends_in_time_has_its_output() {
        let output = output(Command::new("sh").args(["-c", "echo out; echo error >&2; exit 3"])).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"error\n"[..]));
    }

    /// A wait without a limit would be a call that this list does not have: all go through this file.
    #[test]
    fn no_other_file_waits_for_a_program() {
        let sources = crate::repository("xtask/src");
        let mut waiting = Vec::new();
        let mut folders = vec![sources.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&sources).unwrap().display().to_string();
                if path.is_dir() {
                    // The tests' own waits end with what they test.
                    if name != "test" {
                        folders.push(path);
                    }
                } else if name != "progress.rs" {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
                    for wait in [".status()?", ".status().", ".output()", ".wait()", ".wait_with_output()"] {
                        if product.contains(wait) {
                            waiting.push(format!("{name}: {wait}"));
                        }
                    }
                }
            }
        }
        assert!(waiting.is_empty(), "{waiting:?}");
    }
}
