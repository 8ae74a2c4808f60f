//! Linux's source: Debian's package, unpacked once, and the copy of it that is built.
//!
//! The copy is made of hard links; in it two makefiles are replaced by includes of `linux/kbuild/`. Nothing else of it is
//! changed, and nothing of it is tracked.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, Need};
use crate::{progress, repository};

/// Debian's source of Linux 6.1.
const PACKAGE: Need =
    Need { what: "the source of Linux 6.1", packages: &["linux-source-6.1"], found: || Path::new(ARCHIVE).exists() };
const ARCHIVE: &str = "/usr/src/linux-source-6.1.tar.xz";

/// The makefiles that are replaced, and what is included in their place when `PORTCULLIS` is set.
const MAKEFILES: [(&str, &str); 2] =
    [("kernel/entry", "kbuild/kernel-entry.mk"), ("arch/x86/entry", "kbuild/x86-entry.mk")];

/// Linux's source as it is built.
pub struct Source {
    /// The copy with our two makefiles.
    pub tree: PathBuf,
    /// Changes when the package does.
    pub version: String,
}

/// Where everything about Linux that is not tracked lives.
pub fn cache() -> PathBuf {
    repository(".cache/linux")
}

/// Waits until no other `./x` makes `what` in the cache. The caller makes it, or finds it made, as long as it holds the file.
pub fn lock(what: &str) -> Result<File> {
    let cache = cache();
    fs::create_dir_all(&cache)?;
    let path = cache.join(what).with_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    progress::lock(&file, what)?;
    Ok(file)
}

/// Fetches, unpacks and copies the source, as far as that was not done before.
pub fn source() -> Result<Source> {
    setup::ensure(&[PACKAGE])?;
    let _lock = lock("source")?;
    let cache = cache();
    let (unpacked, tree, stamp) = (cache.join("source"), cache.join("tree"), cache.join("source.stamp"));
    let archive = fs::metadata(ARCHIVE)?;
    let version = format!("{} bytes, of {}", archive.size(), archive.mtime());
    if fs::read_to_string(&stamp).is_ok_and(|done| done == version) && tree.exists() {
        write_makefiles(&tree)?;
        return Ok(Source { tree, version });
    }
    for old in [&unpacked, &tree] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&unpacked)?;
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=1", "-xf", ARCHIVE, "-C"]).arg(&unpacked);
    progress::step("unpacking the source of Linux in .cache/linux (1.5 GB)", &mut tar, progress::LONG)?;
    // Hard links: the second copy costs no space, and its files have a path of their own in the kernel's messages.
    let mut copy = Command::new("cp");
    copy.arg("-al").arg(&unpacked).arg(&tree);
    progress::step("linking a copy of it to build from", &mut copy, progress::LONG)?;
    write_makefiles(&tree)?;
    fs::write(&stamp, &version)?;
    Ok(Source { tree, version })
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
