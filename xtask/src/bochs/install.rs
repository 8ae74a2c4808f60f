//! Debian's Bochs. Debian 12 has an old one: this one is of a later release, and unpacked in the cache.

use std::process::Command;

use anyhow::{Context, Result};

use crate::suite::{Private, Unpacked};

/// Bochs 3.1, and the smallest of the displays of which its package wants one.
const BOCHS: Private = Private {
    name: "bochs",
    releases: &["forky", "sid"],
    packages: &["bochs", "bochs-term"],
    download: "65 MB",
    unpacked: "300 MB",
    program: "usr/bin/bochs-bin",
};

/// Bochs as it was unpacked.
pub struct Installed {
    packages: Unpacked,
}

/// Fetches and unpacks Bochs, unless that was done.
pub fn install() -> Result<Installed> {
    let packages = BOCHS.unpack().context(
        "Bochs cannot be had. Look at the network and at apt's sources; or give a Bochs 3.1 of your own: --bochs PATH",
    )?;
    Ok(Installed { packages })
}

impl Installed {
    /// Bochs, with its own plug-ins.
    pub fn command(&self) -> Command {
        let usr = self.packages.root().join("usr");
        let mut bochs = self.packages.command();
        bochs.env("LTDL_LIBRARY_PATH", usr.join("lib/x86_64-linux-gnu/bochs/plugins"));
        bochs.env("BXSHARE", usr.join("share/bochs"));
        bochs
    }
}
