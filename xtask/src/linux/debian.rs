//! Debian's userland for Linux to boot to: a disk with an ext4 file system, made once by debootstrap and kept in the cache.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::source::{cache, lock};
use crate::progress;
use crate::qemu::{Machine, MachineType};
use crate::setup::{self, Need};

/// Debian 12.
const SUITE: &str = "bookworm";

/// What is there beside debootstrap's smallest system.
const PACKAGES: [&str; 2] = ["gcc", "libc6-dev"];

/// The size of the disk; what is empty of it takes no space on the host.
const BYTES: u64 = 2 << 30;

/// Where an address can be given that apt's sources do not have.
const MIRROR: &str = "PORTCULLIS_DEBIAN_MIRROR";

const TOOLS: Need = Need {
    what: "what makes a disk with Debian",
    packages: &["debootstrap", "debian-archive-keyring", "gpgv", "wget", "e2fsprogs"],
    found: || {
        ["debootstrap", "gpgv", "wget", "mke2fs"].iter().all(|tool| administrators(tool).is_some())
            && Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists()
    },
};

/// How the guest names the disk.
pub const DEVICE: &str = "/dev/vda";

/// Puts the disk into a machine. What the guest writes to it is gone at the end of the boot.
pub fn attach(machine: &mut Machine, disk: &Path) {
    let device = match machine.machine {
        MachineType::Microvm => "virtio-blk-device",
        MachineType::Q35 => "virtio-blk-pci",
    };
    // A comma in a path is doubled: alone it would end the value.
    let path = disk.display().to_string().replace(',', ",,");
    machine.extra.extend([
        "-drive".into(),
        OsString::from(format!("if=none,id=disk,format=raw,snapshot=on,file={path}")),
        "-device".into(),
        format!("{device},drive=disk").into(),
    ]);
}

/// The disk's image: made, unless it is there.
pub fn disk() -> Result<PathBuf> {
    let directory = cache().join("debian");
    let _lock = lock("debian")?;
    let (image, stamp) = (directory.join("disk.ext4"), directory.join("stamp"));
    let contents = format!("{SUITE} {} {BYTES}", PACKAGES.join(","));
    if image.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == contents) {
        return Ok(image);
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "making the disk with Debian's userland needs root: debootstrap unpacks files of several owners. \
         Run this once as root (or with sudo); the disk is then kept in .cache/linux/debian"
    );
    setup::ensure(&[TOOLS])?;
    fs::create_dir_all(&directory)?;
    let root = directory.join("root");
    unpack(&root)?;
    // debootstrap copies these two of the host's.
    fs::write(root.join("etc/hostname"), "portcullis\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost portcullis\n")?;
    let new = directory.join("disk.new");
    File::create(&new)?.set_len(BYTES).with_context(|| format!("cannot make {}", new.display()))?;
    let mut mke2fs = Command::new(administrators("mke2fs").context("mke2fs was there just now")?);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&new);
    progress::step("making an ext4 disk of it", &mut mke2fs, progress::LONG)
        .context("look at the space that is left for .cache (1 GB is needed), then run this again")?;
    remove(&root)?;
    fs::rename(&new, &image)?;
    fs::write(&stamp, contents)?;
    Ok(image)
}

/// debootstrap into a directory.
fn unpack(root: &Path) -> Result<()> {
    let mirror = mirror()?;
    remove(root)?;
    let mut debootstrap = Command::new(administrators("debootstrap").context("debootstrap was there just now")?);
    debootstrap
        .arg("--variant=minbase")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(root)
        .arg(&mirror);
    let title = format!("unpacking Debian's userland (debootstrap {SUITE} with {}; a few minutes)", PACKAGES.join(" "));
    progress::step(&title, &mut debootstrap, progress::LONG).with_context(|| {
        format!(
            "look at the network and at {}; another mirror than {mirror} can be given in {MIRROR}; then run this again",
            root.join("debootstrap/debootstrap.log").display()
        )
    })
}

/// Removes what a debootstrap left, but nothing that is still mounted in it.
fn remove(root: &Path) -> Result<()> {
    let mut rm = Command::new("rm");
    rm.args(["-rf", "--one-file-system"]).arg(root);
    let status = progress::status(&mut rm, "rm to remove an old userland", progress::BUILD)?;
    ensure!(
        status.success(),
        "cannot remove {}; see whether something is mounted in it (findmnt), unmount that, and run this again",
        root.display()
    );
    Ok(())
}

/// Where Debian's packages come from: as apt on this machine has it.
pub fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var(MIRROR) {
        return Ok(mirror);
    }
    if let Some(mirror) = apt_mirror()? {
        return Ok(mirror);
    }
    // Apt knows a source's origin only after it has read its lists.
    setup::update_lists()?;
    match apt_mirror()? {
        Some(mirror) => Ok(mirror),
        None => bail!(
            "apt's sources on this machine have no repository of Debian; give the address of one in {MIRROR} \
             (on Debian's web site is a list of mirrors), and run this again"
        ),
    }
}

fn apt_mirror() -> Result<Option<String>> {
    let output =
        progress::output(Command::new("apt-get").args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)"]).args([
            "Created-By: Packages",
            "Origin: Debian",
            "Component: main",
        ]))
        .context("cannot start apt-get: Debian's userland is made where there is apt")?;
    Ok(choose(&String::from_utf8_lossy(&output.stdout)))
}

/// Of lines of a release and a repository's address the address that has [`SUITE`]: the release's own, or any other that is
/// no addition to a release (`-updates`, `-security`).
fn choose(lines: &str) -> Option<String> {
    let sources = || lines.lines().filter_map(|line| line.split_once(' '));
    let same = sources().find(|(release, _)| *release == SUITE);
    let main = same.or_else(|| sources().find(|(release, _)| !release.contains('-')))?;
    Some(main.1.trim().to_owned())
}

/// A program of an administrator's path, which not every user has.
fn administrators(program: &str) -> Option<PathBuf> {
    let standard = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).join(program));
    crate::program::which(program).or_else(|| standard.into_iter().find(|path| path.exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_of_the_release_is_chosen() {
        let lines = "bookworm-updates a://x/debian/\nbookworm-security a://x/security/\nbookworm a://y/debian/\n";
        assert_eq!(choose(lines).as_deref(), Some("a://y/debian/"));
        let other = "trixie-security a://x/security/\ntrixie a://x/debian/\n";
        assert_eq!(choose(other).as_deref(), Some("a://x/debian/"));
        assert_eq!(choose(""), None);
    }
}
