//! Debian's stock cloud kernel, to compare with, and the module that claims NMIs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{progress, repository, setup};

/// The stock kernel, unpacked under `.cache/stock`; nothing is installed.
pub struct Stock {
    /// Its bootable image.
    pub image: PathBuf,
    /// Its release, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// `bench/nmi_claim.c` built for it, or why that was not possible.
    pub nmi_claim: Result<PathBuf>,
}

/// Fetches the kernel unless that was done before, and builds the module for it.
pub fn fetch() -> Result<Stock> {
    let cache = repository(".cache/stock");
    let release = release(&cache)?;
    let nmi_claim = build_module(&cache, &release);
    Ok(Stock { image: cache.join(format!("boot/vmlinuz-{release}")), release, nmi_claim })
}

/// Fetches the kernel unless that was done before, and gives its bootable image.
pub fn image() -> Result<PathBuf> {
    let cache = repository(".cache/stock");
    let release = release(&cache)?;
    Ok(cache.join(format!("boot/vmlinuz-{release}")))
}

fn release(cache: &Path) -> Result<String> {
    match unpacked(cache) {
        Some(release) => Ok(release),
        None => download(cache).with_context(|| {
            "fetching Debian's cloud kernel to compare with. It needs apt with a Debian 12 archive:\n  \
             apt-get update && apt-get download linux-image-cloud-amd64\n\
             Without it, `--no-stock` runs this project's kernel alone."
        }),
    }
}

/// The newest kernel that is unpacked in `cache`.
fn unpacked(cache: &Path) -> Option<String> {
    let names = fs::read_dir(cache.join("boot")).ok()?;
    names.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned())).max()
}

fn download(cache: &Path) -> Result<String> {
    // The package `linux-image-cloud-amd64` is empty; what it depends on is the kernel of the day.
    let depends = depends("linux-image-cloud-amd64")?;
    let package = dependency(&depends, "linux-image-")
        .ok_or_else(|| anyhow!("linux-image-cloud-amd64 depends on no kernel:\n{depends}"))?;
    unpack(cache, &package)?;
    unpacked(cache).ok_or_else(|| anyhow!("{package} holds no /boot/vmlinuz-*"))
}

/// What `apt-cache depends` says about a package.
fn depends(package: &str) -> Result<String> {
    let output = progress::output(Command::new("apt-cache").args(["depends", package]))?;
    if !output.status.success() {
        bail!("apt-cache knows no {package}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
    setup::apt_step(&format!("fetching {package}"), || {
        let mut apt = setup::apt();
        apt.args(["download", package]).current_dir(&download);
        apt
    })?;
    for entry in fs::read_dir(&download)? {
        let path = entry?.path();
        progress::step(
            &format!("unpacking {package} in .cache/stock"),
            Command::new("dpkg").arg("-x").arg(&path).arg(cache),
            progress::LONG,
        )?;
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Builds the module with Debian's kernel headers, which like the kernel are only unpacked.
fn build_module(cache: &Path, release: &str) -> Result<PathBuf> {
    let headers = cache.join(format!("usr/src/linux-headers-{release}"));
    if !headers.join("Module.symvers").exists() {
        let package = format!("linux-headers-{release}");
        let depends = depends(&package)?;
        unpack(cache, &package)?;
        for prefix in ["linux-headers-", "linux-kbuild-"] {
            let name =
                dependency(&depends, prefix).ok_or_else(|| anyhow!("{package} depends on no {prefix}* package"))?;
            unpack(cache, &name)?;
        }
        // The only absolute path in there; installed, it would be right.
        let makefile = headers.join("Makefile");
        let text = fs::read_to_string(&makefile)?;
        let here = cache.join("usr/src");
        fs::write(makefile, text.replace("/usr/src", here.to_str().context("path is not UTF-8")?))?;
    }
    let build = cache.join("nmi_claim");
    fs::create_dir_all(&build)?;
    fs::copy(repository("bench/nmi_claim.c"), build.join("nmi_claim.c"))?;
    fs::write(build.join("Kbuild"), "obj-m := nmi_claim.o\nccflags-y := -g0\n")?;
    let mut make = Command::new("make");
    make.arg("-C").arg(&headers).arg(format!("M={}", build.display())).arg("modules");
    progress::step("building bench/nmi_claim.c for the stock kernel", &mut make, progress::LONG)?;
    Ok(build.join("nmi_claim.ko"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_package_behind_an_empty_one() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: x\n";
        assert_eq!(dependency(depends, "linux-image-").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency(depends, "linux-kbuild-"), None);
    }
}
