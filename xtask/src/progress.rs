//! Long steps, shown: a spinner with the step's last line of output on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal};

/// How many lines of a failed step's output are shown.
const TAIL: usize = 15;

/// Runs `command` without input, as the step that `title` names. Its output is shown only when it fails.
/// A step that takes longer than `limit` has failed.
pub fn step(title: &str, command: &mut Command, limit: Option<Duration>) -> Result<()> {
    let start = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| spinner(title));
    if spinner.is_none() {
        eprintln!("x: {title} ...");
    }
    let outcome = watch(command, spinner.as_ref(), limit);
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

fn spinner(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
        .expect("a valid template");
    let spinner = ProgressBar::new_spinner()
        .with_style(style)
        .with_prefix(title.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn watch(command: &mut Command, spinner: Option<&ProgressBar>, limit: Option<Duration>) -> Result<()> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let readers: Vec<_> = [
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
    ]
    .into_iter()
    .flatten()
    .map(|pipe| {
        let (tail, spinner) = (tail.clone(), spinner.cloned());
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
        })
    })
    .collect();

    // A thread that waits for the deadline and not a loop that polls: `rustup` and `apt-get` run for minutes.
    let (finished, deadline) = std::sync::mpsc::channel::<()>();
    let pid = Pid::from_child(&child);
    let guard = limit.map(|limit| {
        thread::spawn(move || {
            let expired = deadline.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if expired {
                let _ = rustix::process::kill_process(pid, Signal::TERM);
            }
            expired
        })
    });
    for reader in readers {
        reader.join().expect("a reader does not panic");
    }
    // Both pipes are closed: the command has ended, or ends now. It is reaped only after the deadline's thread is gone,
    // so that thread cannot signal a stranger with the same number.
    drop(finished);
    let expired = guard.is_some_and(|guard| guard.join().expect("the guard does not panic"));
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let tail = tail
        .lock()
        .expect("no reader panics")
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect::<String>();
    let how = if expired {
        "took too long and was ended".to_owned()
    } else {
        format!("{status}")
    };
    bail!("tried {shown}: {how}{tail}")
}
