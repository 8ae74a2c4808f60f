//! Files of the host that the guest finds: what `./x run` and `./x image` have options for.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::initramfs::{Initramfs, Item};
use crate::progress;

/// Which files.
#[derive(clap::Args, Clone, Default)]
pub struct Carried {
    /// Add the files under DIR to the guest's root
    #[arg(long, value_name = "DIR")]
    initramfs: Option<PathBuf>,
    /// Add this file, directory or link of the host, at its own place, what its links lead to, and the libraries that its
    /// programs and shared objects need (repeatable)
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Add this directory of the host as it is, with all below it, at its own place. Called from within it, the program starts
    /// in the same directory (repeatable)
    #[arg(long, value_name = "PATH")]
    dir: Vec<PathBuf>,
}

impl Carried {
    /// Adds them.
    pub fn add_to(&self, root: &mut Initramfs) -> Result<()> {
        if let Some(directory) = &self.initramfs {
            root.tree(directory)?;
        }
        for path in &self.with {
            root.host(&std::path::absolute(path)?)?;
        }
        for path in &self.dir {
            carry(root, path)?;
        }
        Ok(())
    }
}

/// Adds a directory, and says how far it is.
fn carry(root: &mut Initramfs, given: &Path) -> Result<()> {
    let what = || format!("cannot read {}", given.display());
    let path = given.canonicalize().with_context(what)?;
    ensure!(path.is_dir(), "{} is no directory: --with adds files", given.display());
    ensure!(path != Path::new("/"), "/ is the guest's own: --dir adds a directory below it");
    let spinner = stderr().is_terminal().then(|| progress::spinner(&path.display().to_string()));
    let (mut files, mut bytes) = (0, 0);
    let mut left_out = Vec::new();
    root.folder(&path, &mut |item| {
        match item {
            Item::File { len } => (files, bytes) = (files + 1, bytes + len),
            Item::Special(path) => left_out.push(path.to_owned()),
        }
        if let Some(spinner) = &spinner {
            spinner.set_message(shown(files, bytes));
        }
    })?;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    eprintln!("x: {}: {}", path.display(), shown(files, bytes));
    for path in left_out {
        eprintln!("x: {}: left out: neither a file, a directory nor a symbolic link", path.display());
    }
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    if let Ok(here) = here.as_deref()
        && here.starts_with(&path)
    {
        root.working_directory(here);
    }
    Ok(())
}

fn shown(files: u64, bytes: u64) -> String {
    let noun = if files == 1 { "file" } else { "files" };
    format!("{files} {noun}, {:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
