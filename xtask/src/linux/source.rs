//! Linux's source: Debian's package of a version, or what the user has, unpacked once, and the copy of it that is built.
//!
//! The copy is made of hard links; in it two makefiles are replaced by includes of `linux/kbuild/`. Nothing else of it is
//! changed, and nothing of it is tracked.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::setup::{self, Need};
use crate::suite::Suite;
use crate::{progress, repository};

/// A version of Linux that the overlay in `linux/` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// Debian 12's kernel
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's kernel
    #[value(name = "6.12")]
    V6_12,
    /// The newest in Debian
    #[value(name = "7.2")]
    V7_2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Version::V6_1 => "6.1",
            Version::V6_12 => "6.12",
            Version::V7_2 => "7.2",
        })
    }
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 3] = [Version::V6_1, Version::V6_12, Version::V7_2];

    /// Debian's package of the source.
    fn package(self) -> String {
        format!("linux-source-{self}")
    }

    /// The releases of Debian that have it, in the order in which they are asked.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Version::V6_1 => &["bookworm"],
            Version::V6_12 => &["trixie"],
            Version::V7_2 => &["forky", "sid"],
        }
    }
}

/// Which Linux's source.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// The version of Linux [default: 6.12, or the one of --source]
    #[arg(long, value_enum, value_name = "VERSION")]
    version: Option<Version>,
    /// Take this source, a directory or a tarball, in place of Debian's package
    #[arg(long, value_name = "DIR|TARBALL")]
    source: Option<PathBuf>,
}

impl SourceArgs {
    /// Debian's source of a version.
    pub fn debian(version: Version) -> SourceArgs {
        SourceArgs { version: Some(version), source: None }
    }
}

/// The version that is built where none is named.
const DEFAULT: Version = Version::V6_12;

/// What unpacks and fetches it.
const TOOLS: Need = Need {
    what: "what Linux's source is unpacked with",
    packages: &["xz-utils", "dpkg"],
    found: || ["xz", "tar", "dpkg-deb"].iter().all(|tool| setup::in_path(tool)),
};

/// The makefiles that are replaced, and what is included in their place when `PORTCULLIS` is set.
const MAKEFILES: [(&str, &str); 2] =
    [("kernel/entry", "kbuild/kernel-entry.mk"), ("arch/x86/entry", "kbuild/x86-entry.mk")];

/// Linux's source as it is built.
#[derive(Debug)]
pub struct Source {
    /// Which Linux it is.
    pub version: Version,
    /// As it was unpacked.
    pub unpacked: PathBuf,
    /// The copy with our two makefiles.
    pub tree: PathBuf,
    /// Changes when the source does.
    pub stamp: String,
    /// Where everything that is made of it lives.
    pub directory: PathBuf,
}

/// Where everything about Linux that is not tracked lives.
pub fn cache() -> PathBuf {
    repository(".cache/linux")
}

/// Waits until no other `./x` makes `what` in the cache. The caller makes it, or finds it made, as long as it holds the file.
pub fn lock(what: &str) -> Result<File> {
    let cache = cache();
    fs::create_dir_all(&cache)?;
    let path = cache.join(format!("{what}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    progress::lock(&file, what)?;
    Ok(file)
}

/// Fetches, unpacks and copies the source, as far as that was not done before.
pub fn source(args: &SourceArgs) -> Result<Source> {
    setup::ensure(&[TOOLS])?;
    let (version, directory) = match &args.source {
        None => {
            let version = args.version.unwrap_or(DEFAULT);
            (version, cache().join(version.to_string()))
        }
        Some(own) => {
            let version = version_of(own)?;
            if let Some(asked) = args.version.filter(|asked| *asked != version) {
                bail!("{} is Linux {version}, not the {asked} of --version", own.display());
            }
            (version, cache().join(format!("{version}-source")))
        }
    };
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let _lock = lock(&name)?;
    let origin = match &args.source {
        None => archive_locked(version)?,
        Some(own) => own.canonicalize().with_context(|| format!("cannot find {}", own.display()))?,
    };
    let (unpacked, tree) = (directory.join("source"), directory.join("tree"));
    let changed = fs::metadata(if origin.is_dir() { origin.join("Makefile") } else { origin.clone() })?;
    let stamp = format!("{}: {} bytes, of {}", origin.display(), changed.size(), changed.mtime());
    let source = Source { version, unpacked, tree, stamp, directory };
    let done = source.directory.join("source.stamp");
    if fs::read_to_string(&done).is_ok_and(|stamp| stamp == source.stamp) && source.tree.exists() {
        write_makefiles(&source.tree)?;
        return Ok(source);
    }
    for old in [&source.unpacked, &source.tree] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&source.directory)?;
    unpack(&origin, &source)?;
    // Hard links: the second copy costs no space, and its files have a path of their own in the kernel's messages.
    let mut copy = Command::new("cp");
    copy.arg("-al").arg(&source.unpacked).arg(&source.tree);
    progress::step("linking a copy of it to build from", &mut copy, progress::LONG)?;
    write_makefiles(&source.tree)?;
    fs::write(&done, &source.stamp)?;
    Ok(source)
}

/// Puts what `origin` holds into `source.unpacked`.
fn unpack(origin: &Path, source: &Source) -> Result<()> {
    let title = format!("unpacking the source of Linux {} in .cache/linux (1.5 GB)", source.version);
    if origin.is_dir() {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg("--reflink=auto").arg(origin).arg(&source.unpacked);
        return progress::step(&title, &mut copy, progress::LONG);
    }
    fs::create_dir_all(&source.unpacked)?;
    let mut tar = Command::new("tar");
    tar.arg("--strip-components=1").arg("-xf").arg(origin).arg("-C").arg(&source.unpacked);
    progress::step(&title, &mut tar, progress::LONG)
}

/// Which Linux the user's own source is.
fn version_of(own: &Path) -> Result<Version> {
    let makefile = if own.is_dir() {
        fs::read_to_string(own.join("Makefile"))
            .with_context(|| format!("{} is no source of Linux: it has no Makefile", own.display()))?
    } else {
        ensure!(own.exists(), "there is no {}", own.display());
        let mut tar = Command::new("tar");
        tar.args(["--wildcards", "--no-wildcards-match-slash", "--occurrence=1", "-xOf"]).arg(own).arg("*/Makefile");
        let output = progress::output(&mut tar)?;
        ensure!(output.status.success(), "{} holds no source of Linux: no */Makefile", own.display());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let found = makefile_version(&makefile).with_context(|| format!("{} is no source of Linux", own.display()))?;
    Version::ALL.into_iter().find(|version| version.to_string() == found).with_context(|| {
        let all = Version::ALL.map(|version| version.to_string()).join(", ");
        format!("{} is Linux {found}; the overlay in linux/ is for {all}", own.display())
    })
}

/// `VERSION.PATCHLEVEL` of Linux's top makefile.
fn makefile_version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let (left, right) = line.split_once('=')?;
            (left.trim() == name).then(|| right.trim().to_owned())
        })
    };
    Some(format!("{}.{}", value("VERSION")?, value("PATCHLEVEL")?))
}

/// Debian's tarball of a version's source: the one that is installed on this machine, or one that is fetched.
pub fn archive(version: Version) -> Result<PathBuf> {
    setup::ensure(&[TOOLS])?;
    let _lock = lock(&version.to_string())?;
    archive_locked(version)
}

fn installed(version: Version) -> PathBuf {
    Path::new("/usr/src").join(version.package()).with_extension_appended("tar.xz")
}

fn fetched(version: Version) -> PathBuf {
    cache().join(version.to_string()).join("archive.tar.xz")
}

fn archive_locked(version: Version) -> Result<PathBuf> {
    let (installed, fetched) = (installed(version), fetched(version));
    if installed.exists() {
        return Ok(installed);
    }
    if !fetched.exists() {
        fetch(version, &fetched).with_context(|| {
            format!(
                "the source of Linux {version} cannot be had. Look at the network and at apt's sources; or give the source \
                 yourself: --source DIR or --source TARBALL (linux-{version}.y of kernel.org, or {} of Debian {})",
                version.package(),
                version.suites().join(" or ")
            )
        })?;
    }
    Ok(fetched)
}

/// Downloads Debian's package and keeps its tarball as `archive`.
fn fetch(version: Version, archive: &Path) -> Result<()> {
    let directory = cache().join(version.to_string()).join("apt");
    let mut last = None;
    for suite in version.suites() {
        match Suite::open(suite, &directory).and_then(|suite| suite.download(&version.package(), "150 MB")) {
            Ok(package) => {
                let contents = directory.join("contents");
                let mut unpack = Command::new("dpkg-deb");
                unpack.arg("-x").arg(package).arg(&contents);
                progress::step("taking the tarball out of the package", &mut unpack, progress::LONG)?;
                let tarball = contents.join("usr/src").join(version.package()).with_extension_appended("tar.xz");
                fs::rename(&tarball, archive).with_context(|| format!("the package holds no {}", tarball.display()))?;
                fs::remove_dir_all(&directory)?;
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no release has it")?)
}

/// Replaces the makefiles that are not ours yet. The original stays beside each, for the stock kernel.
fn write_makefiles(tree: &Path) -> Result<()> {
    for (directory, ours) in MAKEFILES {
        let (makefile, original) = (tree.join(directory).join("Makefile"), tree.join(directory).join("Makefile.linux"));
        let text = format!(
            "ifdef PORTCULLIS\ninclude $(PORTCULLIS)/{ours}\nelse\n\
             include $(srctree)/{directory}/Makefile.linux\nendif\n"
        );
        if fs::read_to_string(&makefile).is_ok_and(|now| now == text) {
            continue;
        }
        // The name is moved, never written through: the file itself is also the unpacked source's.
        if !original.exists() {
            fs::rename(&makefile, &original)?;
        }
        let new = makefile.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &makefile).with_context(|| format!("cannot replace {}", makefile.display()))?;
    }
    Ok(())
}

trait AppendExtension {
    /// The path with `.` and `end` after it, whatever dots it has.
    fn with_extension_appended(&self, end: &str) -> PathBuf;
}

impl AppendExtension for Path {
    fn with_extension_appended(&self, end: &str) -> PathBuf {
        let mut name = self.as_os_str().to_owned();
        name.push(".");
        name.push(end);
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_makefile() {
        let makefile = "# SPDX\nVERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 13\nEXTRAVERSION =\n";
        assert_eq!(makefile_version(makefile).as_deref(), Some("7.2"));
        assert_eq!(makefile_version("VERSION = 7\n"), None);
    }

    #[test]
    fn a_source_of_another_linux_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Makefile"), "VERSION = 5\nPATCHLEVEL = 10\n").unwrap();
        let error = version_of(directory.path()).unwrap_err().to_string();
        assert!(error.contains("Linux 5.10") && error.contains("6.1, 6.12, 7.2"), "{error}");
        fs::write(directory.path().join("Makefile"), "VERSION = 6\nPATCHLEVEL = 12\n").unwrap();
        assert_eq!(version_of(directory.path()).unwrap(), Version::V6_12);
        let asked = SourceArgs { version: Some(Version::V7_2), source: Some(directory.path().to_owned()) };
        assert!(source(&asked).unwrap_err().to_string().contains("not the 7.2"));
    }

    /// `lib.rs` chooses the files of a version; everything else is the same for all.
    #[test]
    fn what_differs_between_versions_is_in_their_folder() {
        let mut looked_at = 0;
        for path in crate::sources("linux/src").unwrap() {
            let text = fs::read_to_string(&path).unwrap();
            let version =
                Version::ALL.iter().find(|version| text.contains(&format!("linux_{version}").replace('.', "_")));
            let chooses = path.ends_with("src/lib.rs");
            assert_eq!(version.is_some(), chooses, "{} asks for Linux {version:?}", path.display());
            looked_at += 1;
        }
        assert!(looked_at > 10, "{looked_at} files");
    }

    #[test]
    fn names_of_files_keep_their_dots() {
        assert_eq!(installed(Version::V6_1), Path::new("/usr/src/linux-source-6.1.tar.xz"));
    }
}
