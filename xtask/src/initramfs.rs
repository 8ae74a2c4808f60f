//! The guest's file system, as a cpio archive (newc) that the kernel unpacks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType};

use crate::program::{self, Program};
use crate::{kernel, setup};

/// What one path in the archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory {
        mode: u32,
    },
    File {
        mode: u32,
        data: Arc<Vec<u8>>,
        /// Device and number of the host's inode, where that has several names: they get one inode here, too.
        inode: Option<(u64, u64)>,
    },
    Symlink {
        target: PathBuf,
    },
}

/// An archive that is being put together. Paths are absolute or relative to the root, which is the same; parents are made
/// as needed; what is added later replaces what was there.
#[derive(Clone, Default)]
pub struct Initramfs {
    nodes: BTreeMap<PathBuf, Node>,
    /// The contents of the host's inodes with several names that were read.
    linked: HashMap<(u64, u64), Arc<Vec<u8>>>,
    /// The files of the host that [`Initramfs::host`] was asked for, which a link may lead to again.
    visited: HashSet<PathBuf>,
}

/// What an archive takes of the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The archive itself, which stays where the loader put it.
    pub archive: u64,
    /// What is unpacked from it, in whole pages, with what the kernel keeps of each file.
    pub unpacked: u64,
}

impl Size {
    /// Whether a machine with so much memory can unpack it.
    pub fn fits(self, memory: u64) -> bool {
        /// The kernel's image, its tables and the part of memory that it keeps for itself.
        const KERNEL: u64 = 3 << 20;
        let reserve = (memory / 32).min(4 << 20);
        self.archive + self.unpacked + KERNEL + reserve <= memory
    }

    /// How many MiB of memory to give the machine: enough to unpack it and to run something.
    pub fn memory(self) -> u64 {
        /// For the kernel and the program.
        const ROOM: u64 = 96 << 20;
        const STEP: u64 = 64 << 20;
        (self.archive + self.unpacked + ROOM).next_multiple_of(STEP) >> 20
    }
}

/// What is met while a directory is added.
pub enum Item<'a> {
    /// A file, with so many bytes.
    File {
        /// Its length.
        len: u64,
    },
    /// A device, a socket or a fifo, which an archive does not take.
    Special(&'a Path),
}

impl Initramfs {
    /// A busybox user land: the host's static busybox with a link for each applet, and the few files it reads.
    pub fn busybox() -> Result<Initramfs> {
        let busybox = setup::busybox().context("no static busybox on this machine")?;
        let mut root = Initramfs::default();
        for directory in ["dev", "etc", "home", "mnt", "proc", "root", "run", "tmp", "usr", "var/log", "var/tmp"] {
            root.directory(directory);
        }
        root.mode("tmp", 0o1777).mode("var/tmp", 0o1777).mode("root", 0o700);
        // One directory of programs under its four customary names, and /usr with all that Debian has there.
        root.directory("usr/bin").directory("usr/lib").directory("usr/lib64");
        root.symlink("bin", "usr/bin").symlink("sbin", "usr/bin").symlink("usr/sbin", "bin");
        root.symlink("lib", "usr/lib").symlink("lib64", "usr/lib64");
        for applet in setup::applets()? {
            root.symlink(Path::new("bin").join(applet), "busybox");
        }
        root.copy("bin/busybox", &busybox)?;
        root.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
        root.file("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
        root.file("etc/hostname", 0o644, "portcullis\n");
        root.file("etc/hosts", 0o644, "127.0.0.1 localhost portcullis\n");
        root.file("etc/profile", 0o644, "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n");
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
        // The dot makes `resolve` follow a link in the last component: one to a directory stays.
        let path = self.resolve(&path.as_ref().join("."));
        if !matches!(self.nodes.get(&path), Some(Node::Directory { .. })) {
            self.insert(path, Node::Directory { mode: 0o755 });
        }
        self
    }

    /// A file with these contents.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, data: impl Into<Vec<u8>>) -> &mut Self {
        let path = self.resolve(path.as_ref());
        self.insert(path, Node::File { mode, data: Arc::new(data.into()), inode: None });
        self
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> &mut Self {
        let path = self.resolve(path.as_ref());
        self.insert(path, Node::Symlink { target: target.as_ref().to_owned() });
        self
    }

    /// A copy of a file of the host, with its mode. Names of one inode are names of one inode here.
    pub fn copy(&mut self, path: impl AsRef<Path>, host: &Path) -> Result<&mut Self> {
        let what = || format!("cannot read {}", host.display());
        let metadata = fs::metadata(host).with_context(what)?;
        let mode = metadata.permissions().mode() & 0o7777;
        let inode = (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
        let data = match inode.and_then(|inode| self.linked.get(&inode)) {
            Some(data) => data.clone(),
            None => Arc::new(fs::read(host).with_context(what)?),
        };
        if let Some(inode) = inode {
            self.linked.insert(inode, data.clone());
        }
        let path = self.resolve(path.as_ref());
        self.insert(path, Node::File { mode, data, inode });
        Ok(self)
    }

    /// A program of the host and what it needs, at the same places.
    pub fn program(&mut self, program: &Program) -> Result<&mut Self> {
        self.host(&program.path)?;
        self.needs(&program.needs)
    }

    /// What a program reads beside what it needs to start.
    pub fn companions(&mut self, program: &Program) -> Result<&mut Self> {
        for file in program.companions.iter().flat_map(|companions| &companions.files) {
            if !file.is_dir() {
                self.host(file)?;
            } else if !file.is_symlink() {
                self.directory(file);
            } else if file.parent() != Some(Path::new("/")) {
                // What it leads to is a directory of the package's, too, or is none of its.
                self.system_links();
                self.symlink(file, fs::read_link(file)?);
            }
        }
        Ok(self)
    }

    /// A file or directory of the host, at the same place, with the libraries that its programs and shared objects need and
    /// with what its links lead to.
    pub fn host(&mut self, path: &Path) -> Result<&mut Self> {
        self.system_links();
        let kind = fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?.file_type();
        if !self.visited.insert(path.to_owned()) {
            return Ok(self);
        }
        if kind.is_dir() {
            self.directory(path);
            for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
                self.host(&entry?.path())?;
            }
        } else if kind.is_symlink() {
            self.host_link(path)?;
        } else if kind.is_file() {
            self.copy(path, path)?;
            if let Ok(needs) = program::needs(path) {
                self.needs(&needs)?;
            }
        }
        Ok(self)
    }

    /// A symbolic link of the host, and what it leads to, at its own place.
    fn host_link(&mut self, path: &Path) -> Result<()> {
        let target = fs::read_link(path)?;
        let mut leads_to = path.parent().unwrap_or(Path::new("/")).to_owned();
        append(&mut leads_to, &target);
        let leads_to = Path::new("/").join(leads_to);
        // A directory that is a link here and none there is left by `..` to another place.
        let moved = self.resolve(path) != path.strip_prefix("/").unwrap_or(path);
        if path != leads_to && self.resolve(path) == self.resolve(&leads_to) {
            // Two names of the host that are one here: /bin/x to /usr/bin/x, where one is a link to the other.
            return self.host(&leads_to).map(drop);
        }
        self.symlink(path, if moved { &leads_to } else { &target });
        // The kernel's own file systems are the guest's, and a directory that holds the link is on its way already.
        let foreign = ["/proc", "/sys", "/dev", "/run"].iter().any(|own| leads_to.starts_with(own));
        if !foreign && !path.starts_with(&leads_to) && fs::symlink_metadata(&leads_to).is_ok() {
            self.host(&leads_to)?;
        }
        Ok(())
    }

    /// The links by which the host's libraries are found: `/lib` to `usr/lib`, say. Before anything is put there.
    fn system_links(&mut self) {
        for directory in ["lib", "lib32", "lib64", "libx32"] {
            if let Ok(target) = fs::read_link(Path::new("/").join(directory))
                && !self.nodes.contains_key(Path::new(directory))
            {
                let mut place = PathBuf::new();
                append(&mut place, &target);
                self.directory(place).symlink(directory, target);
            }
        }
    }

    /// Libraries and interpreters of the host, found through the same links as there.
    fn needs(&mut self, files: &[PathBuf]) -> Result<&mut Self> {
        self.system_links();
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
        self.tree_below(host, Path::new(""), &mut |item| match item {
            Item::File { .. } => Ok(()),
            Item::Special(path) => bail!("{} is neither a file, a directory nor a symbolic link", path.display()),
        })?;
        Ok(self)
    }

    /// A directory of the host and everything below it as it is, at its own place. `seen` is told of each file, and of what is left out.
    pub fn folder(&mut self, path: &Path, seen: &mut dyn FnMut(Item)) -> Result<&mut Self> {
        let mode = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
        self.directory(path).mode(path, mode & 0o7777);
        self.tree_below(path, path, &mut |item| {
            seen(item);
            Ok(())
        })?;
        Ok(self)
    }

    /// Where the first program starts; otherwise in the root directory.
    pub fn working_directory(&mut self, path: &Path) -> &mut Self {
        self.file(".portcullis/cwd", 0o644, nul_terminated(&[path.as_os_str().as_bytes()]))
    }

    fn tree_below(&mut self, host: &Path, path: &Path, seen: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        for entry in fs::read_dir(host).with_context(|| format!("cannot read the directory {}", host.display()))? {
            let entry = entry?;
            let (from, to, kind) = (entry.path(), path.join(entry.file_name()), entry.file_type()?);
            if kind.is_symlink() {
                self.symlink(&to, fs::read_link(&from)?);
            } else if kind.is_dir() {
                self.directory(&to);
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                self.mode(&to, mode);
                self.tree_below(&from, &to, seen)?;
            } else if kind.is_file() {
                self.copy(&to, &from)?;
                seen(Item::File { len: entry.metadata()?.len() })?;
            } else {
                seen(Item::Special(&from))?;
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
            self.nodes.entry(parent.to_owned()).or_insert(Node::Directory { mode: 0o755 });
        }
        self.nodes.insert(path, node);
    }

    /// `path` relative to the root, without dots, and with the links in its parents followed: a file in `usr/bin` belongs
    /// to `bin` when the one is a link to the other.
    fn resolve(&self, path: &Path) -> PathBuf {
        let mut resolved = PathBuf::new();
        // A dot at the end is no component for `components`, but here.
        let dot = path.as_os_str().as_bytes().ends_with(b"/.");
        let end = dot.then_some(Component::CurDir);
        for component in path.components().chain(end) {
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
        self.encode(&mut out).with_context(|| format!("cannot write {}", archive.display()))?;
        out.flush().with_context(|| format!("cannot write {}", archive.display()))
    }

    /// What it takes of the guest's memory.
    pub fn size(&self) -> Result<Size> {
        /// The kernel's own data about a file or directory, and its frame counts and page lists.
        const PER_NODE: u64 = 768;
        let mut archive = Counter(0);
        self.encode(&mut archive)?;
        let mut seen = HashSet::new();
        let mut unpacked = 0;
        for node in self.nodes.values() {
            unpacked += PER_NODE;
            if let Node::File { data, inode, .. } = node
                && inode.is_none_or(|inode| seen.insert(inode))
            {
                let pages = (data.len() as u64).next_multiple_of(4096);
                unpacked += pages + pages / 64;
            }
        }
        Ok(Size { archive: archive.0, unpacked })
    }

    fn encode(&self, out: &mut dyn Write) -> Result<()> {
        let mut names: HashMap<(u64, u64), u32> = HashMap::new();
        for node in self.nodes.values() {
            if let Node::File { inode: Some(inode), .. } = node {
                *names.entry(*inode).or_default() += 1;
            }
        }
        let mut numbers: HashMap<(u64, u64), u32> = HashMap::new();
        for (index, (path, node)) in self.nodes.iter().enumerate() {
            let name = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
            let mut number = index as u32 + 1;
            let (kind, mode, data, links) = match node {
                Node::Directory { mode } => (ModeFileType::Directory, *mode, &[][..], 2),
                Node::File { mode, data, inode: Some(inode) } => {
                    // The first of its names has the contents.
                    let first = *numbers.entry(*inode).or_insert(number);
                    let data = if first == number { data.as_slice() } else { &[] };
                    number = first;
                    (ModeFileType::Regular, *mode, data, names[inode])
                }
                Node::File { mode, data, .. } => (ModeFileType::Regular, *mode, data.as_slice(), 1),
                Node::Symlink { target } => (ModeFileType::Symlink, 0o777, target.as_os_str().as_bytes(), 1),
            };
            let size = u32::try_from(data.len()).with_context(|| format!("{name} is larger than 4 GiB"))?;
            let entry = Builder::new(name).ino(number).nlink(links).mode(mode).set_mode_file_type(kind);
            let mut writer = entry.write(&mut *out, size);
            writer.write_all(data)?;
            writer.finish()?;
        }
        cpio::newc::trailer(out)?;
        Ok(())
    }
}

/// Counts the bytes that are written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
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
    strings.iter().flat_map(|string| string.as_ref().iter().copied().chain([0])).collect()
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
        root.file("/a/b/file", 0o640, "12345").symlink("a/link", "b/file").directory("z");
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
        let entries: Vec<(&str, u32, &[u8])> = entries.iter().map(|(n, m, d)| (n.as_str(), *m, d.as_slice())).collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn files_go_where_a_linked_directory_points() {
        let mut root = Initramfs::default();
        root.directory("bin").symlink("usr/bin", "../bin").file("/usr/bin/./program", 0o755, "x");
        assert!(matches!(root.nodes.get(Path::new("bin/program")), Some(Node::File { .. })));
        assert!(matches!(root.nodes.get(Path::new("usr/bin")), Some(Node::Symlink { .. })));
    }

    #[test]
    fn names_of_one_inode_stay_so() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("one"), vec![7; 10_000]).unwrap();
        fs::hard_link(scratch.path().join("one"), scratch.path().join("two")).unwrap();
        let mut root = Initramfs::default();
        root.tree(scratch.path()).unwrap();
        let mut archive = Vec::new();
        root.encode(&mut archive).unwrap();
        let sizes: Vec<usize> = decode(&archive).iter().map(|entry| entry.2.len()).collect();
        assert_eq!(sizes, [10_000, 0]);
        let field = |entry: usize, index: usize| {
            let at = archive.windows(6).enumerate().filter(|(_, bytes)| *bytes == b"070701").nth(entry).unwrap().0;
            archive[at + 6 + 8 * index..at + 14 + 8 * index].to_vec()
        };
        assert_eq!(field(0, 0), field(1, 0));
        assert_eq!((&field(0, 4)[..], &field(1, 4)[..]), (&b"00000002"[..], &b"00000002"[..]));
        let size = root.size().unwrap();
        assert_eq!(size.archive, archive.len() as u64);
        assert!((12_288..16_384).contains(&size.unpacked), "{size:?}");
    }

    #[test]
    fn a_link_brings_what_it_leads_to() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("data/deep")).unwrap();
        fs::write(at("data/deep/file"), "text").unwrap();
        std::os::unix::fs::symlink("data/deep", at("first")).unwrap();
        std::os::unix::fs::symlink(at("first"), at("second")).unwrap();
        // Links in a circle, to a parent, and to nothing.
        std::os::unix::fs::symlink("circle", at("data/deep/circle")).unwrap();
        std::os::unix::fs::symlink("../..", at("data/deep/parent")).unwrap();
        std::os::unix::fs::symlink("missing", at("data/deep/dangling")).unwrap();
        let mut root = Initramfs::default();
        root.host(&at("second")).unwrap();
        let node = |name: &str| root.nodes.get(at(name).strip_prefix("/").unwrap());
        assert!(matches!(node("second"), Some(Node::Symlink { .. })));
        assert!(matches!(node("first"), Some(Node::Symlink { .. })));
        assert!(matches!(node("data/deep/file"), Some(Node::File { .. })));
        for link in ["circle", "parent", "dangling"] {
            assert!(matches!(node(&format!("data/deep/{link}")), Some(Node::Symlink { .. })));
        }
    }

    #[test]
    fn a_link_in_a_merged_directory_keeps_its_target() {
        let mut root = Initramfs::default();
        root.directory("bin").symlink("usr/bin", "../bin");
        // As /usr/bin/x -> ../share/x: from /bin, that would be /share/x.
        assert_eq!(root.resolve(Path::new("/usr/bin/x")), Path::new("bin/x"));
        assert_eq!(root.resolve(Path::new("/usr/share/x")), Path::new("usr/share/x"));
        // The directory of the same name is where the link leads.
        root.directory("/usr/bin").directory("/usr/bin/sub");
        assert!(matches!(root.nodes.get(Path::new("usr/bin")), Some(Node::Symlink { .. })));
        assert!(matches!(root.nodes.get(Path::new("bin/sub")), Some(Node::Directory { .. })));
    }
}
