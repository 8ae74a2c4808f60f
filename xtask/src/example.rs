//! Building the kernels of `examples/minimal`.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Result, bail};

use crate::toolchain::{TARGET, Toolchain};
use crate::{progress, repository};

/// Builds them, with the library's assertions (`checked`, as they are in its profile) or without, and gives the folder of their
/// images.
pub fn build(checked: bool) -> Result<PathBuf> {
    let directory = repository("examples/minimal");
    let target = directory.join(if checked { "target" } else { "target/unchecked" });
    let mut cargo = Toolchain::install()?.cargo("build");
    cargo
        .args(["--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    if !checked {
        cargo.args(["--config", "profile.release.debug-assertions=false"]);
    }
    let shown = format!("{cargo:?}");
    let status = progress::status(&mut cargo, "cargo to build the examples", progress::BUILD)?;
    if !status.success() {
        bail!("it could not be built ({status}). The errors stand above; tried, in examples/minimal/: {shown}");
    }
    Ok(target.join(TARGET).join("release"))
}
