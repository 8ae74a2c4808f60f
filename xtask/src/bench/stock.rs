//! Debian's stock cloud kernel, to compare with, and the module that claims NMIs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::command;

/// The stock kernel, unpacked under `.cache/stock`; nothing is installed.
pub struct Stock {
    /// Its bootable image.
    pub image: PathBuf,
    /// Its release, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// `bench/nmi_claim.c` built for it, or why that was not possible.
    pub nmi_claim: Result<Vec<u8>>,
}

/// Fetches the kernel unless that was done before, and builds the module for it.
pub fn fetch(root: &Path) -> Result<Stock> {
    let cache = root.join(".cache/stock");
    let release = match unpacked(&cache) {
        Some(release) => release,
        None => download(&cache).with_context(|| {
            "fetching Debian's cloud kernel to compare with. It needs apt with a Debian 12 archive:\n  \
             apt-get update && apt-get download linux-image-cloud-amd64\n\
             Without it, `./x bench --no-stock` measures this project's kernel alone."
        })?,
    };
    let nmi_claim = build_module(root, &cache, &release);
    Ok(Stock {
        image: cache.join(format!("boot/vmlinuz-{release}")),
        release,
        nmi_claim,
    })
}

/// The newest kernel that is unpacked in `cache`.
fn unpacked(cache: &Path) -> Option<String> {
    let names = fs::read_dir(cache.join("boot")).ok()?;
    names
        .filter_map(|entry| {
            Some(
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_prefix("vmlinuz-")?
                    .to_owned(),
            )
        })
        .max()
}

fn download(cache: &Path) -> Result<String> {
    // The package `linux-image-cloud-amd64` is empty; what it depends on is the kernel of the day.
    let depends = command::run(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
    let package = dependency(&depends, "linux-image-")
        .ok_or_else(|| anyhow!("linux-image-cloud-amd64 depends on no kernel:\n{depends}"))?;
    eprintln!("bench: fetching {package} (26 MB, once)");
    unpack(cache, &package)?;
    unpacked(cache).ok_or_else(|| anyhow!("{package} holds no /boot/vmlinuz-*"))
}

/// The first `Depends:` that starts with `prefix` in the output of `apt-cache depends`.
fn dependency(depends: &str, prefix: &str) -> Option<String> {
    depends.lines().find_map(|line| {
        let name = line.trim().strip_prefix("Depends: ")?;
        name.starts_with(prefix).then(|| name.to_owned())
    })
}

/// Downloads a package with the machine's own apt and unpacks it into `cache`.
fn unpack(cache: &Path, package: &str) -> Result<()> {
    let download = cache.join("download");
    fs::create_dir_all(&download)?;
    command::run(
        Command::new("apt-get")
            .args(["download", package])
            .current_dir(&download),
    )?;
    for entry in fs::read_dir(&download)? {
        let path = entry?.path();
        command::run(Command::new("dpkg").arg("-x").arg(&path).arg(cache))?;
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Builds the module with Debian's kernel headers, which like the kernel are only unpacked.
fn build_module(root: &Path, cache: &Path, release: &str) -> Result<Vec<u8>> {
    let headers = cache.join(format!("usr/src/linux-headers-{release}"));
    if !headers.join("Module.symvers").exists() {
        let package = format!("linux-headers-{release}");
        eprintln!("bench: fetching {package} (14 MB, once)");
        let depends = command::run(Command::new("apt-cache").args(["depends", &package]))?;
        unpack(cache, &package)?;
        for prefix in ["linux-headers-", "linux-kbuild-"] {
            let name = dependency(&depends, prefix)
                .ok_or_else(|| anyhow!("{package} depends on no {prefix}* package"))?;
            unpack(cache, &name)?;
        }
        // The only absolute path in there; installed, it would be right.
        let makefile = headers.join("Makefile");
        let text = fs::read_to_string(&makefile)?;
        let here = cache.join("usr/src");
        fs::write(
            makefile,
            text.replace("/usr/src", here.to_str().context("path is not UTF-8")?),
        )?;
    }
    let build = cache.join("nmi_claim");
    fs::create_dir_all(&build)?;
    fs::copy(root.join("bench/nmi_claim.c"), build.join("nmi_claim.c"))?;
    fs::write(build.join("Kbuild"), "obj-m := nmi_claim.o\nccflags-y := -g0\n")?;
    command::run(
        Command::new("make")
            .arg("-C")
            .arg(&headers)
            .arg(format!("M={}", build.display()))
            .arg("modules"),
    )?;
    Ok(fs::read(build.join("nmi_claim.ko"))?)
}
