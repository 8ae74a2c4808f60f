//! Building Linux, stock and with Portcullis: two links in one tree.
//!
//! The make variable `PORTCULLIS`, the path of `linux/`, chooses. All other objects are the same file in both, which is
//! what makes them comparable. What a build makes is kept as `bzImage-VARIANT` and `vmlinux-VARIANT`.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::config::{Arch, Config, configure};
use super::source::{Source, SourceArgs, Version, source};
use crate::setup::{self, Need};
use crate::{progress, repository, toolchain};

/// Whose code is at the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Linux's own.
    Stock,
    /// Ours.
    Portcullis,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Variant::Stock => "stock",
            Variant::Portcullis => "portcullis",
        })
    }
}

/// What building Linux needs.
const TOOLS: Need = Need {
    what: "what Linux is built with",
    packages: &[
        "make",
        "gcc",
        "libc6-dev",
        "binutils",
        "flex",
        "bison",
        "bc",
        "lz4",
        "libelf-dev",
        "libssl-dev",
        "xz-utils",
        "kmod",
        "perl",
        "python3",
    ],
    found: || {
        ["make", "gcc", "ld", "flex", "bison", "bc", "lz4", "xz", "perl"].iter().all(|tool| setup::in_path(tool))
            && Path::new("/usr/include/libelf.h").exists()
            && Path::new("/usr/include/openssl/ssl.h").exists()
    },
};

/// Between two lines of progress where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(30);

/// How much of a failed build's messages is shown.
const TAIL: usize = 25;

/// A configuration of Linux, and where it is built.
pub struct Tree {
    source: Source,
    arch: Arch,
    config: Config,
    /// The directory of objects.
    pub build: PathBuf,
}

/// A bootable image of Linux: built, unless that was done since anything it is made from changed.
pub fn image(from: &SourceArgs, arch: Arch, config: Config, variant: Variant) -> Result<PathBuf> {
    Tree::new(from, arch, config)?.image(variant)
}

impl Tree {
    /// The source, and a build directory with its configuration.
    pub fn new(from: &SourceArgs, arch: Arch, config: Config) -> Result<Tree> {
        setup::ensure(&[TOOLS])?;
        let source = source(from)?;
        let build = source.directory.join(format!("build/{arch}-{config}"));
        configure(&source, &build, arch, config)?;
        Ok(Tree { source, arch, config, build })
    }

    /// The image of a variant, as [`image`].
    pub fn image(&self, variant: Variant) -> Result<PathBuf> {
        let kept = self.build.join(format!("bzImage-{variant}"));
        if !self.is_current(&kept, variant)? {
            self.make(variant, &["bzImage"])?;
            for (made, name) in [("arch/x86/boot/bzImage", "bzImage"), ("vmlinux", "vmlinux")] {
                let made = self.build.join(made);
                fs::copy(&made, self.build.join(format!("{name}-{variant}")))
                    .with_context(|| format!("make has not made {}", made.display()))?;
            }
        }
        Ok(kept)
    }

    /// The ELF file that a variant's image is made of, with its symbols; there when the image is.
    pub fn elf(&self, variant: Variant) -> PathBuf {
        self.build.join(format!("vmlinux-{variant}"))
    }

    /// Makes some of our objects alone, which needs Linux's generated headers and nothing else of it.
    pub fn objects(&self, objects: &[&str]) -> Result<()> {
        self.make(Variant::Portcullis, &["prepare"])?;
        self.make(Variant::Portcullis, objects)
    }

    /// Which Linux it is.
    pub fn version(&self) -> Version {
        self.source.version
    }

    /// Linux's source as it was unpacked.
    pub fn unpacked(&self) -> &Path {
        &self.source.unpacked
    }

    /// Linux's source as it is built.
    pub fn source(&self) -> &Path {
        &self.source.tree
    }

    /// `make` for this tree, without a target.
    fn command(&self, variant: Variant) -> Result<Command> {
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(&self.source.tree)
            .arg(format!("O={}", self.build.display()))
            .arg(format!("ARCH={}", self.arch));
        if variant == Variant::Portcullis {
            make.arg(format!("PORTCULLIS={}", repository("linux").display()));
            make.arg(format!("PORTCULLIS_RUSTC={}", toolchain::with_core_source()?.display()));
        }
        if self.headers().exists() {
            make.arg(format!("NOSTDINC_FLAGS=-nostdinc -I{}", self.front().display()));
        }
        // The same bytes from the same source, whenever and wherever it is built.
        make.env("KBUILD_BUILD_TIMESTAMP", "@0")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("KBUILD_BUILD_USER", "portcullis")
            .env("KBUILD_BUILD_HOST", "portcullis");
        make.env_remove("MAKEFLAGS").env_remove("PORTCULLIS");
        Ok(make)
    }

    /// Our headers that stand in front of Linux's of the same names; not every version has any.
    fn headers(&self) -> PathBuf {
        repository("linux/versions").join(self.source.version.to_string()).join("include")
    }

    /// The directory in front of all others where the compiler looks for headers.
    fn front(&self) -> PathBuf {
        self.build.join("portcullis-include")
    }

    /// Puts a header in front of each that we replace: ours, or for the stock kernel one that includes Linux's. Both have one path,
    /// and make compiles again what includes a header that was written. So it compiles nothing else when the variant changes.
    fn write_front(&self, variant: Variant) -> Result<()> {
        let headers = self.headers();
        if !headers.exists() {
            return Ok(());
        }
        let front = self.front().join("linux");
        fs::create_dir_all(&front)?;
        for entry in fs::read_dir(headers.join("linux"))? {
            let (ours, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let text = match variant {
                Variant::Portcullis => fs::read_to_string(&ours)?,
                Variant::Stock => format!("#include_next <linux/{}>\n", name.display()),
            };
            let path = front.join(&name);
            if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Whether `image` is newer than all that it is made from.
    fn is_current(&self, image: &Path, variant: Variant) -> Result<bool> {
        let Ok(built) = fs::metadata(image).and_then(|metadata| metadata.modified()) else {
            return Ok(false);
        };
        let mut newest = newest(&self.build.join("config.stamp"))?;
        if variant == Variant::Portcullis {
            for input in
                ["linux/src", "linux/glue", "linux/kbuild", "linux/versions", "portcullis/src", "crates/linux-abi/src"]
            {
                newest = newest.max(self::newest(&repository(input))?);
            }
        }
        Ok(built > newest)
    }

    /// Runs `make`, with the number of objects made so far as the progress.
    fn make(&self, variant: Variant, targets: &[&str]) -> Result<()> {
        let lock = File::create(self.build.join("lock"))?;
        progress::lock(&lock, "Linux in the same directory")?;
        self.write_front(variant)?;
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut make = self.command(variant)?;
        make.arg(format!("-j{jobs}")).args(targets);
        let title = format!(
            "building Linux {} {} {} {variant} ({})",
            self.source.version,
            self.arch,
            self.config,
            targets.join(" ")
        );
        let mut log = File::create(self.build.join(format!("make-{variant}.log")))?;
        writeln!(log, "{make:?}")?;
        watch(&title, &mut make, log)
    }
}

/// The latest time at which `path`, or a file below it, was modified. What is not there was never modified.
fn newest(path: &Path) -> Result<SystemTime> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(SystemTime::UNIX_EPOCH);
    };
    let mut latest = metadata.modified()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            latest = latest.max(newest(&entry?.path())?);
        }
    }
    Ok(latest)
}

/// Runs a make, showing how many objects it has made; its warnings are shown, and the end of its messages if it fails.
fn watch(title: &str, make: &mut Command, log: File) -> Result<()> {
    let start = Instant::now();
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {pos} objects {wide_msg:.dim}")
            .expect("a valid template");
        let bar = ProgressBar::no_length().with_style(style).with_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    if bar.is_none() {
        eprintln!("x: {title} ...");
    }
    let shown = format!("{make:?}");
    let mut child = make
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let log = Arc::new(Mutex::new(log));

    let errors = child.stderr.take().map(BufReader::new);
    let error_log = log.clone();
    let errors = thread::spawn(move || {
        let mut tail = VecDeque::new();
        for line in lines(errors) {
            let _ = writeln!(error_log.lock().expect("no writer panics"), "{line}");
            tail.push_back(line);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
        tail
    });

    let output = lines(child.stdout.take().map(BufReader::new));
    let guard = progress::Guard::start(child, title, progress::LONG);
    let (mut objects, mut told) = (0, Instant::now());
    for line in output {
        let _ = writeln!(log.lock().expect("no writer panics"), "{line}");
        // kbuild's short form: `  CC      kernel/fork.o`.
        let Some(file) = line.strip_prefix("  ").and_then(|line| line.split_whitespace().nth(1)) else {
            continue;
        };
        objects += u64::from(file.ends_with(".o"));
        match &bar {
            Some(bar) => {
                bar.set_position(objects);
                bar.set_message(file.to_owned());
            }
            None if told.elapsed() > INTERVAL => {
                told = Instant::now();
                eprintln!("x: {objects} objects after {} s: {file}", start.elapsed().as_secs());
            }
            None => {}
        }
    }
    let status = guard.finish()?;
    let tail = errors.join().expect("the reader does not panic");
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let seconds = start.elapsed().as_secs();
    let tail: String = tail.iter().map(|line| format!("\n    {line}")).collect();
    if !status.success() {
        bail!("{title}: failed after {seconds} s ({status}); tried {shown}{tail}");
    }
    if !tail.is_empty() {
        eprintln!("x: make said:{tail}");
    }
    eprintln!("x: {title}: done in {seconds} s, {objects} objects");
    Ok(())
}

fn lines(pipe: Option<impl BufRead>) -> impl Iterator<Item = String> {
    pipe.into_iter()
        .flat_map(|pipe| pipe.split(b'\n').map_while(Result::ok))
        .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
}
