//! The tests in one kernel on one machine. A kernel that dies takes the test that ran with it, and is booted again for
//! the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tempfile::TempDir;

use super::outcome::{Ending, Transcript};
use super::{Outcome, Test, build};
use crate::initramfs::Initramfs;
use crate::qemu::{self, Boot, Machine};
use crate::run::{environment, log_tail};

/// A kernel to run them in.
#[derive(Clone, Debug)]
pub struct Image {
    /// What `qemu -kernel` takes.
    pub path: PathBuf,
    /// Its command line.
    pub append: String,
    /// Whether it is the reference kernel, which takes the first program's name from the archive.
    pub reference: bool,
    /// Files of the host that take the place of the archive's: a 32-bit kernel needs a 32-bit runner.
    pub files: Vec<(&'static str, PathBuf)>,
}

impl Image {
    /// The reference kernel. The programs print to a terminal there as in Linux: what they buffer for a pipe is lost when
    /// they are killed, and comes twice when they fork.
    pub fn reference(path: &Path) -> Image {
        Image { path: path.to_owned(), append: "stdin=tty".to_owned(), reference: true, files: Vec::new() }
    }

    /// A Linux. It polls when idle, as wake-ups between CPUs dominate under an emulator; an oops ends the boot; and it has
    /// four levels of page tables, as ours.
    pub fn linux(path: &Path) -> Image {
        Image {
            path: path.to_owned(),
            append: "console=ttyS0 loglevel=2 panic=-1 oops=panic idle=poll vsyscall=xonly no5lvl rdinit=/tests/runner"
                .to_owned(),
            reference: false,
            files: Vec::new(),
        }
    }
}

impl Image {
    /// A boot of it with these files, of which `/tests/runner` is the first program. The directory holds them until it is dropped.
    pub fn boot(&self, machine: &Machine, mut root: Initramfs) -> Result<(TempDir, Boot)> {
        if self.reference {
            root.argv(&["/tests/runner"]).env(&environment()).symbols_of(&self.path)?;
        }
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let initrd = scratch.path().join("initramfs.cpio");
        root.write(&initrd)?;
        let mut boot = Boot::new(machine.clone(), &self.path);
        boot.initrd = Some(initrd);
        boot.append = self.append.clone();
        Ok((scratch, boot))
    }
}

/// How long nothing may happen beyond a test's own limit.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a kernel may fail to come as far as the first test.
const BOOT_ATTEMPTS: u32 = 3;

/// Runs each of `tests` once, in as many boots as it takes; each outcome also goes to `each` as it comes.
///
/// None is run again here: a test that does not end may be the kernel's fault, a wake-up that gets lost once in a thousand
/// times.
pub fn run(
    image: &Image,
    machine: &Machine,
    tests: &[&Test],
    mut each: impl FnMut(&Test, &Outcome),
) -> Result<BTreeMap<String, Outcome>> {
    let mut waiting: Vec<&Test> = tests.to_vec();
    let mut outcomes = BTreeMap::new();
    let mut attempts = 0;
    while !waiting.is_empty() {
        let mut transcript = Transcript::default();
        let mut finished = Vec::new();
        let outcome = boot(image, machine, &waiting, |line| {
            if let Some((id, outcome)) = transcript.line(line) {
                if let Some(test) = waiting.iter().find(|test| test.id() == id) {
                    each(test, &outcome);
                }
                finished.push((id, outcome));
            }
        })?;
        if !transcript.ended {
            let ending = match outcome.ending {
                qemu::Ending::TimedOut => Ending::Hang,
                _ => Ending::Panic,
            };
            match transcript.interrupted(ending) {
                Some((id, died)) => {
                    if let Some(test) = waiting.iter().find(|test| test.id() == id) {
                        each(test, &died);
                        eprintln!("x: the kernel died; its log ends with:\n{}", log_tail(&outcome.log));
                    }
                    finished.push((id, died));
                }
                None => {
                    attempts += 1;
                    if attempts == BOOT_ATTEMPTS {
                        bail!(
                            "{} does not run on -cpu {} -smp {}: {:?}\n{}",
                            image.path.display(),
                            machine.cpu,
                            machine.smp,
                            outcome.ending,
                            log_tail(&outcome.log)
                        );
                    }
                }
            }
        }
        waiting.retain(|test| finished.iter().all(|(id, _)| test.id() != *id));
        if transcript.ended && !waiting.is_empty() && finished.is_empty() {
            bail!("the runner left out {}", waiting[0].id());
        }
        outcomes.extend(finished);
    }
    Ok(outcomes)
}

/// How many seconds a test may take. A busy host is given time, as no test in our kernel is given another chance.
fn limit(image: &Image, test: &Test) -> u32 {
    const FACTOR: u32 = 3;
    if image.reference { test.limit * FACTOR } else { test.limit }
}

fn boot(image: &Image, machine: &Machine, tests: &[&Test], each: impl FnMut(&str)) -> Result<qemu::Outcome> {
    let mut root = Initramfs::busybox()?;
    let mut list = String::new();
    for test in tests {
        let path = test.guest_path();
        root.copy(&path, &test.program)?;
        let words = [test.id(), limit(image, test).to_string()]
            .into_iter()
            .chain(test.environment.iter().map(|variable| (*variable).to_owned()))
            .chain([path])
            .chain(test.arguments.iter().cloned());
        list.push_str(&words.collect::<Vec<_>>().join(" "));
        list.push('\n');
    }
    root.file("tests/list", 0o644, list);
    root.copy("tests/runner", &build::runner()?)?;
    for (path, file) in &image.files {
        root.copy(path, file)?;
    }
    let (_scratch, mut boot) = image.boot(machine, root)?;
    let longest = tests.iter().map(|test| limit(image, test)).max().unwrap_or_default();
    boot.silence = Some(SILENCE + Duration::from_secs(u64::from(longest)));
    boot.run_lines(each)
}
