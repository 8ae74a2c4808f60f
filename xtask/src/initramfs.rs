//! The guest's file system, as a cpio archive (newc) that the kernel unpacks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType};

use crate::program::{self, Program};
use crate::{kernel, progress, setup};

/// What one path in the archive is.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, data: Vec<u8> },
    Symlink { target: PathBuf },
}

/// An archive that is being put together. Paths are absolute or relative to the root, which is the same; parents are made
/// as needed; what is added later replaces what was there.
#[derive(Default)]
pub struct Initramfs {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Initramfs {
    /// A busybox user land: the host's static busybox with a link for each applet, and the few files it reads.
    pub fn busybox() -> Result<Initramfs> {
        let busybox = setup::busybox().context("no static busybox on this machine")?;
        let list = progress::output(Command::new(&busybox).arg("--list"))?;
        let mut root = Initramfs::default();
        for directory in [
            "bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "tmp", "usr", "var/log", "var/tmp",
        ] {
            root.directory(directory);
        }
        root.mode("tmp", 0o1777)
            .mode("var/tmp", 0o1777)
            .mode("root", 0o700);
        // One directory of programs under its four customary names.
        root.symlink("sbin", "bin")
            .symlink("usr/bin", "../bin")
            .symlink("usr/sbin", "../bin");
        for applet in String::from_utf8_lossy(&list.stdout).lines() {
            root.symlink(Path::new("bin").join(applet), "busybox");
        }
        root.copy("bin/busybox", &busybox)?;
        root.file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        );
        root.file("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
        root.file("etc/hostname", 0o644, "portcullis\n");
        root.file("etc/hosts", 0o644, "127.0.0.1 localhost portcullis\n");
        root.file(
            "etc/profile",
            0o644,
            "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n",
        );
        Ok(root)
    }

    /// The first program and its arguments.
    pub fn argv<S: AsRef<[u8]>>(&mut self, arguments: &[S]) -> &mut Self {
        self.file(".portcullis/argv", 0o644, nul_terminated(arguments))
    }

    /// The first program's environment: `KEY=VALUE` each.
    pub fn env<S: AsRef<[u8]>>(&mut self, variables: &[S]) -> &mut Self {
        self.file(".portcullis/env", 0o644, nul_terminated(variables))
    }

    /// The names that `kernel` prints in a backtrace.
    pub fn symbols_of(&mut self, kernel: &Path) -> Result<&mut Self> {
        let symbols = kernel::symbols(kernel)?;
        Ok(self.file(".portcullis/kernel.syms", 0o644, symbols))
    }

    /// A directory.
    pub fn directory(&mut self, path: impl AsRef<Path>) -> &mut Self {
        let path = self.resolve(path.as_ref());
        if !matches!(self.nodes.get(&path), Some(Node::Directory { .. })) {
            self.insert(path, Node::Directory { mode: 0o755 });
        }
        self
    }

    /// A file with these contents.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, data: impl Into<Vec<u8>>) -> &mut Self {
        let path = self.resolve(path.as_ref());
        self.insert(
            path,
            Node::File {
                mode,
                data: data.into(),
            },
        );
        self
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> &mut Self {
        let path = self.resolve(path.as_ref());
        self.insert(
            path,
            Node::Symlink {
                target: target.as_ref().to_owned(),
            },
        );
        self
    }

    /// A copy of a file of the host, with its mode.
    pub fn copy(&mut self, path: impl AsRef<Path>, host: &Path) -> Result<&mut Self> {
        let what = || format!("cannot read {}", host.display());
        let data = fs::read(host).with_context(what)?;
        let mode = fs::metadata(host).with_context(what)?.permissions().mode() & 0o7777;
        Ok(self.file(path, mode, data))
    }

    /// A program of the host and what it needs, at the same places.
    pub fn program(&mut self, program: &Program) -> Result<&mut Self> {
        self.copy(&program.path, &program.path)?;
        self.needs(&program.needs)
    }

    /// A file or directory of the host, at the same place, with the libraries that its programs and libraries need.
    pub fn host(&mut self, path: &Path) -> Result<&mut Self> {
        let kind = fs::symlink_metadata(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .file_type();
        if kind.is_dir() {
            self.directory(path);
            for entry in fs::read_dir(path)? {
                self.host(&entry?.path())?;
            }
        } else if kind.is_symlink() {
            self.symlink(path, fs::read_link(path)?);
        } else if kind.is_file() {
            self.copy(path, path)?;
            if let Ok(needs) = program::needs(path) {
                self.needs(&needs)?;
            }
        }
        Ok(self)
    }

    /// Libraries and interpreters of the host, found through the same links as there.
    fn needs(&mut self, files: &[PathBuf]) -> Result<&mut Self> {
        for directory in ["lib", "lib32", "lib64", "libx32"] {
            if let Ok(target) = fs::read_link(Path::new("/").join(directory)) {
                self.symlink(directory, target);
            }
        }
        for file in files {
            self.copy(file, file)?;
        }
        let cache = Path::new("/etc/ld.so.cache");
        if !files.is_empty() && cache.exists() {
            self.copy(cache, cache)?;
        }
        Ok(self)
    }

    /// Everything under `host`, a directory of the host, at the root.
    pub fn tree(&mut self, host: &Path) -> Result<&mut Self> {
        self.tree_below(host, Path::new(""))?;
        Ok(self)
    }

    fn tree_below(&mut self, host: &Path, path: &Path) -> Result<()> {
        for entry in
            fs::read_dir(host).with_context(|| format!("cannot read the directory {}", host.display()))?
        {
            let entry = entry?;
            let (from, to, kind) = (entry.path(), path.join(entry.file_name()), entry.file_type()?);
            if kind.is_symlink() {
                self.symlink(&to, fs::read_link(&from)?);
            } else if kind.is_dir() {
                self.directory(&to);
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                self.mode(&to, mode);
                self.tree_below(&from, &to)?;
            } else if kind.is_file() {
                self.copy(&to, &from)?;
            } else {
                bail!(
                    "{} is neither a file, a directory nor a symbolic link",
                    from.display()
                );
            }
        }
        Ok(())
    }

    /// Changes the mode of a directory or file that is there.
    fn mode(&mut self, path: impl AsRef<Path>, new: u32) -> &mut Self {
        let path = self.resolve(path.as_ref());
        if let Some(Node::Directory { mode } | Node::File { mode, .. }) = self.nodes.get_mut(&path) {
            *mode = new;
        }
        self
    }

    fn insert(&mut self, path: PathBuf, node: Node) {
        for parent in path.ancestors().skip(1).filter(|parent| *parent != Path::new("")) {
            self.nodes
                .entry(parent.to_owned())
                .or_insert(Node::Directory { mode: 0o755 });
        }
        self.nodes.insert(path, node);
    }

    /// `path` relative to the root, without dots, and with the links in its parents followed: a file in `usr/bin` belongs
    /// to `bin` when the one is a link to the other.
    fn resolve(&self, path: &Path) -> PathBuf {
        let mut resolved = PathBuf::new();
        for component in path.components() {
            // One level is all that the archive's own links need, and cannot loop.
            if let Some(Node::Symlink { target }) = self.nodes.get(&resolved) {
                let target = target.clone();
                resolved.pop();
                append(&mut resolved, &target);
            }
            append(&mut resolved, Path::new(&component));
        }
        resolved
    }

    /// Writes the archive.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let file = File::create(archive).with_context(|| format!("cannot create {}", archive.display()))?;
        let mut out = BufWriter::new(file);
        self.encode(&mut out)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        out.flush()
            .with_context(|| format!("cannot write {}", archive.display()))
    }

    fn encode(&self, out: &mut dyn Write) -> Result<()> {
        for (index, (path, node)) in self.nodes.iter().enumerate() {
            let name = path
                .to_str()
                .with_context(|| format!("{} is not UTF-8", path.display()))?;
            let (kind, mode, data, links) = match node {
                Node::Directory { mode } => (ModeFileType::Directory, *mode, &[][..], 2),
                Node::File { mode, data } => (ModeFileType::Regular, *mode, data.as_slice(), 1),
                Node::Symlink { target } => (ModeFileType::Symlink, 0o777, target.as_os_str().as_bytes(), 1),
            };
            let size = u32::try_from(data.len()).with_context(|| format!("{name} is larger than 4 GiB"))?;
            let entry = Builder::new(name)
                .ino(index as u32 + 1)
                .nlink(links)
                .mode(mode)
                .set_mode_file_type(kind);
            let mut writer = entry.write(&mut *out, size);
            writer.write_all(data)?;
            writer.finish()?;
        }
        cpio::newc::trailer(out)?;
        Ok(())
    }
}

/// Appends `path` to `base`, taking `.` and `..` by name; an absolute one starts at the root.
fn append(base: &mut PathBuf, path: &Path) {
    for component in path.components() {
        match component {
            Component::RootDir => base.clear(),
            Component::ParentDir => drop(base.pop()),
            Component::Normal(name) => base.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn nul_terminated<S: AsRef<[u8]>>(strings: &[S]) -> Vec<u8> {
    strings
        .iter()
        .flat_map(|string| string.as_ref().iter().copied().chain([0]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, modes and contents of an archive, read back by another implementation than the one that wrote it.
    fn decode(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let padded = |length: usize| length.next_multiple_of(4);
        loop {
            let field = |index: usize| {
                let at = 6 + 8 * index;
                usize::from_str_radix(std::str::from_utf8(&archive[at..at + 8]).unwrap(), 16).unwrap()
            };
            assert_eq!(&archive[..6], b"070701");
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
            let data = padded(110 + name_size);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode as u32, archive[data..data + size].to_vec()));
            archive = &archive[data + padded(size)..];
        }
    }

    #[test]
    fn archive_has_parents_before_children() {
        let mut root = Initramfs::default();
        root.file("/a/b/file", 0o640, "12345")
            .symlink("a/link", "b/file")
            .directory("z");
        root.argv(&["/bin/sh", "-c", ""]);
        let mut archive = Vec::new();
        root.encode(&mut archive).unwrap();
        let entries = decode(&archive);
        let expected: &[(&str, u32, &[u8])] = &[
            (".portcullis", 0o040755, b""),
            (".portcullis/argv", 0o100644, b"/bin/sh\0-c\0\0"),
            ("a", 0o040755, b""),
            ("a/b", 0o040755, b""),
            ("a/b/file", 0o100640, b"12345"),
            ("a/link", 0o120777, b"b/file"),
            ("z", 0o040755, b""),
        ];
        let entries: Vec<(&str, u32, &[u8])> = entries
            .iter()
            .map(|(n, m, d)| (n.as_str(), *m, d.as_slice()))
            .collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn files_go_where_a_linked_directory_points() {
        let mut root = Initramfs::default();
        root.directory("bin")
            .symlink("usr/bin", "../bin")
            .file("/usr/bin/./program", 0o755, "x");
        assert!(matches!(
            root.nodes.get(Path::new("bin/program")),
            Some(Node::File { .. })
        ));
        assert!(matches!(
            root.nodes.get(Path::new("usr/bin")),
            Some(Node::Symlink { .. })
        ));
    }
}
