//! Suite `linux`: the Rust of the Linux overlay, for both widths; with `--all` the whole of Linux, booted and tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSymbol};

use super::report::Report;
use crate::linux::build::Tree;
use crate::linux::config::{Arch, Config};

/// What the overlay makes: the Rust object, and the C that it calls.
const OBJECTS: [&str; 2] = ["kernel/entry/portcullis.o", "kernel/entry/portcullis_glue.o"];

/// Where the rest of Linux declares what these may refer to.
const DECLARATIONS: [&str; 3] = ["arch/x86", "include/linux", "kernel"];

/// Runs the suite.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    for arch in [Arch::X86_64, Arch::I386] {
        let outcome = objects(arch).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/the overlay's objects, {arch}"), outcome);
    }
    if !all {
        report.skip(
            "linux/build, boot and selftests",
            "takes half an hour: ./x test --all",
        );
        return Ok(());
    }
    let this = std::env::current_exe()?;
    for (name, arguments) in [
        (
            "a shell in stock",
            &["run", "--stock", "--timeout", "300", "--", "/bin/busybox", "true"][..],
        ),
        (
            "a shell in ours",
            &["run", "--timeout", "300", "--", "/bin/busybox", "true"],
        ),
        ("selftests are equal", &["selftests"]),
    ] {
        let outcome = run_command(&this, arguments).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/{name}"), outcome);
    }
    Ok(())
}

fn run_command(this: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new(this)
        .arg("linux")
        .args(arguments)
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "./x linux {}: {status}", arguments.join(" "));
    Ok(())
}

/// Compiles the overlay against prepared headers. What it refers to must be Linux's: a panic that can be reached would be
/// a Rust symbol that nobody defines.
fn objects(arch: Arch) -> Result<()> {
    let tree = Tree::new(arch, Config::Small)?;
    tree.objects(&OBJECTS)?;
    let (mut defined, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for name in OBJECTS {
        let path = tree.build.join(name);
        let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(&*data)?;
        for symbol in file.symbols() {
            let name = symbol.name().unwrap_or_default().to_owned();
            if symbol.is_undefined() && !name.is_empty() {
                wanted.insert(name);
            } else if symbol.is_global() {
                defined.insert(name);
            }
        }
    }
    wanted.retain(|name| !defined.contains(name));
    let rust: Vec<String> = wanted
        .iter()
        .filter(|name| name.starts_with("_R") || name.starts_with("_ZN"))
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .collect();
    if !rust.is_empty() {
        bail!(
            "a panic, or another part of `core` that is not there, can be reached: {}",
            rust.join(", ")
        );
    }
    // One for each register, by a macro of arch/x86/lib/retpoline.S: nowhere in the source is the name whole.
    wanted.retain(|name| !name.starts_with("__x86_indirect_thunk_"));
    for directory in DECLARATIONS {
        strike_out_declared(&tree.source().join(directory), &mut wanted)?;
    }
    if !wanted.is_empty() {
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        bail!("Linux declares nothing of these names: {}", names.join(", "));
    }
    Ok(())
}

/// Removes the names that occur as a word in a source file below `directory`.
fn strike_out_declared(directory: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            strike_out_declared(&path, names)?;
        } else if path
            .extension()
            .is_some_and(|end| ["c", "h", "S", "tbl", "lds"].iter().any(|e| end == *e))
        {
            let text = fs::read(&path)?;
            for word in String::from_utf8_lossy(&text).split(|c: char| !c.is_alphanumeric() && c != '_') {
                names.remove(word);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}
