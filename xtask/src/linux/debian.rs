//! Debian's userland for Linux to boot to: a disk with an ext4 file system, made once by debootstrap and kept in the cache.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::source::{cache, lock};
use crate::progress;
use crate::qemu::{Machine, MachineType};
use crate::setup::{self, Need};
use crate::suite::{MIRROR, mirror};

/// Debian 12.
const SUITE: &str = "bookworm";

/// What is there beside debootstrap's smallest system.
const PACKAGES: [&str; 2] = ["gcc", "libc6-dev"];

/// The size of the disk; what is empty of it takes no space on the host.
const BYTES: u64 = 2 << 30;

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

/// A program of an administrator's path, which not every user has.
fn administrators(program: &str) -> Option<PathBuf> {
    let standard = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).join(program));
    crate::program::which(program).or_else(|| standard.into_iter().find(|path| path.exists()))
}
