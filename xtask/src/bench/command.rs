//! Running a tool of the host, with its output in the error when it fails.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and returns what it printed; an error says what was run and what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
