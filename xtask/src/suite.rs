//! Packages of any release of Debian, with package lists of our own: apt's configuration on this machine stays as it is, and
//! nothing is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Need};
use crate::{progress, repository};

/// Where an address can be given that apt's sources do not have.
pub const MIRROR: &str = "PORTCULLIS_DEBIAN_MIRROR";

/// The release whose repository in apt's sources is taken for all releases: Debian 12.
const SUITE: &str = "bookworm";

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
        .context("cannot start apt-get: Debian's packages come by apt")?;
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

/// A release, and a directory in which apt works for it.
pub struct Suite<'a> {
    name: &'a str,
    directory: &'a Path,
}

impl<'a> Suite<'a> {
    /// Reads the release's package lists. What `directory` had is removed.
    pub fn open(name: &'a str, directory: &'a Path) -> Result<Suite<'a>> {
        ensure!(setup::in_path("apt-get"), "this system has no apt-get");
        let mirror = mirror()?;
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        for part in ["lists/partial", "cache/archives/partial", "download"] {
            fs::create_dir_all(directory.join(part))?;
        }
        fs::write(directory.join("sources.list"), format!("deb [signed-by={KEYS}] {mirror} {name} main\n"))?;
        fs::write(directory.join("status"), "")?;
        let suite = Suite { name, directory };
        setup::apt_step(&format!("reading the package lists of Debian {name}, aside from this machine's"), || {
            suite.apt(&["update"])
        })?;
        Ok(suite)
    }

    /// Downloads one package, and gives its file.
    pub fn download(&self, package: &str, size: &str) -> Result<PathBuf> {
        setup::apt_step(&format!("fetching {package} ({size})"), || self.apt(&["download", package]))?;
        let files = packages_in(&self.directory.join("download"))?;
        files.into_iter().next().with_context(|| format!("apt-get download {package} has left no file"))
    }

    /// Downloads packages with all that they depend on, the C library included, and gives the files.
    pub fn download_with_dependencies(&self, packages: &[&str], size: &str) -> Result<Vec<PathBuf>> {
        let words = [&["install", "--download-only", "-y", "--no-install-recommends"], packages].concat();
        let title = format!("fetching {} of Debian {} ({size})", packages.join(" "), self.name);
        setup::apt_step(&title, || self.apt(&words))?;
        packages_in(&self.directory.join("cache/archives"))
    }

    fn apt(&self, words: &[&str]) -> Command {
        let mut apt = setup::apt();
        for (option, value) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "no-parts"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            apt.arg("-o").arg(format!("{option}={}", self.directory.join(value).display()));
        }
        // The lists are this user's, wherever they are; other architectures and translations are nothing here.
        apt.args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "APT::Architectures=amd64"]);
        apt.args(words).current_dir(self.directory.join("download"));
        apt
    }
}

const TOOLS: Need = Need {
    what: "what Debian's packages are unpacked with",
    packages: &["xz-utils", "zstd", "dpkg", "debian-archive-keyring"],
    found: || setup::in_path("dpkg-deb") && Path::new(KEYS).exists(),
};

/// A program of a later release than this machine's: its packages, with all that they depend on, are unpacked in the cache. It
/// runs by that release's C library, and nothing of it is installed.
pub struct Private {
    /// Its folder in the cache.
    pub name: &'static str,
    /// The releases that have it, in the order in which they are asked.
    pub releases: &'static [&'static str],
    /// Its packages.
    pub packages: &'static [&'static str],
    /// How much is fetched, for people.
    pub download: &'static str,
    /// How much it takes in the cache, for people.
    pub unpacked: &'static str,
    /// Its file.
    pub program: &'static str,
}

/// A program that is in the cache.
pub struct Unpacked {
    root: PathBuf,
    program: &'static str,
}

impl Private {
    /// Fetches and unpacks it, unless that was done.
    pub fn unpack(&self) -> Result<Unpacked> {
        let cache = repository(".cache").join(self.name);
        fs::create_dir_all(&cache)?;
        let path = cache.with_extension("lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        progress::lock(&file, self.name)?;
        let unpacked = Unpacked { root: cache.join("root"), program: self.program };
        let done = cache.join("stamp");
        let contents = format!("{} of {}", self.packages.join(" "), self.releases.join(" or "));
        if fs::read_to_string(&done).is_ok_and(|made| made == contents) && unpacked.program().exists() {
            return Ok(unpacked);
        }
        setup::ensure(&[TOOLS])?;
        let apt = cache.join("apt");
        let packages = self.fetch(&apt)?;
        if unpacked.root.exists() {
            fs::remove_dir_all(&unpacked.root)?;
        }
        fs::create_dir_all(&unpacked.root)?;
        eprintln!("x: unpacking {} packages in .cache/{} ({})", packages.len(), self.name, self.unpacked);
        for package in packages {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&package).arg(&unpacked.root);
            let status = progress::status(&mut unpack, "dpkg-deb to unpack a package", progress::BUILD)?;
            ensure!(status.success(), "{} could not be unpacked ({status})", package.display());
        }
        let program = unpacked.program();
        ensure!(program.exists(), "the packages of {} hold no {}", self.name, program.display());
        fs::remove_dir_all(&apt)?;
        fs::write(&done, contents)?;
        Ok(unpacked)
    }

    /// Downloads the packages from the first release that has them.
    fn fetch(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let mut last = None;
        for release in self.releases {
            let packages = Suite::open(release, directory)
                .and_then(|suite| suite.download_with_dependencies(self.packages, self.download));
            match packages {
                Ok(packages) => return Ok(packages),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no release has it")?)
    }
}

impl Unpacked {
    /// Where its files are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn program(&self) -> PathBuf {
        self.root.join(self.program)
    }

    /// The program, by its own dynamic linker and libraries.
    pub fn command(&self) -> Command {
        let usr = self.root.join("usr");
        let mut command = Command::new(usr.join("lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(usr.join("lib/x86_64-linux-gnu")).arg(self.program());
        command
    }

    /// The same with its packages' files as the root of all paths, for a program that looks for its own below `/usr/share`. Who is not
    /// root gets that by a user namespace.
    pub fn inside(&self) -> Command {
        let mut command;
        if rustix::process::geteuid().is_root() {
            command = Command::new("chroot");
        } else {
            command = Command::new("unshare");
            command.args(["--map-root-user", "chroot"]);
        }
        command.arg(&self.root).args([
            "/usr/lib64/ld-linux-x86-64.so.2",
            "--library-path",
            "/usr/lib/x86_64-linux-gnu",
        ]);
        command.arg(Path::new("/").join(self.program));
        command
    }
}

/// The package files of a directory.
fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            files.push(path);
        }
    }
    Ok(files)
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
