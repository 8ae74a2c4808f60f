//! Debian's Bochs, unpacked with all that it depends on into the cache. Debian 12 has an old Bochs: this one is of a later
//! release, runs by that release's C library, and nothing of it is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::{self, Need};
use crate::suite::Suite;
use crate::{progress, repository};

/// The releases that have Bochs 3.1, in the order in which they are asked.
const SUITES: [&str; 2] = ["forky", "sid"];

/// Bochs, and the smallest of the displays of which its package wants one.
const PACKAGES: [&str; 2] = ["bochs", "bochs-term"];

const TOOLS: Need = Need {
    what: "what Debian's packages are unpacked with",
    packages: &["xz-utils", "zstd", "dpkg", "debian-archive-keyring"],
    found: || setup::in_path("dpkg-deb") && Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists(),
};

/// Bochs as it was unpacked.
pub struct Installed {
    root: PathBuf,
}

/// Fetches and unpacks Bochs, unless that was done.
pub fn install() -> Result<Installed> {
    let cache = repository(".cache/bochs");
    fs::create_dir_all(&cache)?;
    let path = cache.with_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    progress::lock(&file, "Bochs")?;
    let installed = Installed { root: cache.join("root") };
    let done = cache.join("stamp");
    let contents = format!("{} of {}", PACKAGES.join(" "), SUITES.join(" or "));
    if fs::read_to_string(&done).is_ok_and(|made| made == contents) && installed.binary().exists() {
        return Ok(installed);
    }
    setup::ensure(&[TOOLS])?;
    let apt = cache.join("apt");
    let packages = fetch(&apt).context(
        "Bochs cannot be had. Look at the network and at apt's sources; or give a Bochs 3.1 of your own: --bochs PATH",
    )?;
    if installed.root.exists() {
        fs::remove_dir_all(&installed.root)?;
    }
    fs::create_dir_all(&installed.root)?;
    eprintln!("x: unpacking {} packages in .cache/bochs (300 MB)", packages.len());
    for package in packages {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(&installed.root);
        let status = progress::status(&mut unpack, "dpkg-deb to unpack a package", progress::BUILD)?;
        ensure!(status.success(), "{} could not be unpacked ({status})", package.display());
    }
    ensure!(installed.binary().exists(), "the packages of Bochs hold no {}", installed.binary().display());
    fs::remove_dir_all(&apt)?;
    fs::write(&done, contents)?;
    Ok(installed)
}

/// Downloads the packages from the first release that has them.
fn fetch(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut last = None;
    for suite in SUITES {
        match Suite::open(suite, directory).and_then(|suite| suite.download_with_dependencies(&PACKAGES, "65 MB")) {
            Ok(packages) => return Ok(packages),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no release has it")?)
}

impl Installed {
    fn binary(&self) -> PathBuf {
        self.root.join("usr/bin/bochs-bin")
    }

    /// Bochs, by its own dynamic linker, libraries and plug-ins.
    pub fn command(&self) -> Command {
        let usr = self.root.join("usr");
        let libraries = usr.join("lib/x86_64-linux-gnu");
        let mut bochs = Command::new(usr.join("lib64/ld-linux-x86-64.so.2"));
        bochs.arg("--library-path").arg(&libraries).arg(self.binary());
        bochs.env("LTDL_LIBRARY_PATH", libraries.join("bochs/plugins")).env("BXSHARE", usr.join("share/bochs"));
        bochs
    }
}
