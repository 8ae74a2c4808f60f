//! `objdump` (from binutils) of an object file, in Intel's syntax and without the bytes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What it prints with these options.
pub fn objdump(path: &Path, options: &[&str]) -> Result<String> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", "-Mintel"])
        .args(options)
        .arg(path)
        .output()
        .context("cannot start objdump (package binutils)")?;
    ensure!(output.status.success(), "objdump {}: {}", path.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
