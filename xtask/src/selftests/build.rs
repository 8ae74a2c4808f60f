//! The source of the tests, and their programs: static, their sources unmodified, by their own makefiles where these can do
//! both widths.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::suites::{BY_MAKEFILE, RSEQ, RSEQ_ENVIRONMENT, Test, WIDTHS, param_test_modes};
use crate::linux::source::{Version, archive};
use crate::setup::{self, Need};
use crate::{is_current, progress, repository};

/// What the tests and the headers they include are made of.
const PARTS: &[&str] = &[
    "Makefile",
    "Kbuild",
    "Kconfig",
    "arch/x86",
    "include",
    "scripts",
    "tools/include",
    "tools/scripts",
    "tools/testing/selftests",
];

const LIBRARIES: Need = Need {
    what: "the C library for 32-bit programs",
    packages: &["gcc-multilib", "libc6-dev-i386"],
    found: || Path::new("/usr/lib32/libc.a").exists(),
};

const CAPABILITIES: Need = Need {
    what: "libcap, make and what the kernel's headers are installed with",
    packages: &["libcap-dev", "make", "rsync", "xz-utils"],
    found: || {
        Path::new("/usr/include/sys/capability.h").exists()
            && ["make", "rsync", "xz"].iter().all(|program| setup::in_path(program))
    },
};

/// Seconds that one test may take. On a busy host the emulator takes most of it.
const LIMIT: u32 = 120;

/// Builds all programs of a Linux's source, the unpacked one if there is one, unless that was done before, and gives the list
/// of tests.
pub fn build(version: Version, unpacked: Option<&Path>) -> Result<Vec<Test>> {
    setup::ensure(&[setup::GCC, LIBRARIES, CAPABILITIES])?;
    let cache = repository(".cache/selftests").join(version.to_string());
    fs::create_dir_all(&cache)?;
    let source = match unpacked {
        Some(whole) => whole.to_owned(),
        None => parts(version, &cache)?,
    };
    let build =
        Build { headers: cache.join("headers"), selftests: source.join("tools/testing/selftests"), source, cache };
    build.install_headers()?;
    let mut tests = build.x86()?;
    for (suite, programs) in BY_MAKEFILE {
        for bits in WIDTHS {
            tests.extend(build.by_makefile(suite, programs, bits)?);
        }
    }
    for bits in WIDTHS {
        tests.extend(build.rseq(bits)?);
    }
    Ok(tests)
}

/// The parts of the source that are needed, unpacked.
fn parts(version: Version, cache: &Path) -> Result<PathBuf> {
    let (parts, stamp) = (cache.join("source"), cache.join("source.stamp"));
    if !stamp.exists() {
        fs::create_dir_all(&parts)?;
        let mut tar = Command::new("tar");
        tar.args(["--strip-components=1", "-xf"])
            .arg(archive(version)?)
            .arg("-C")
            .arg(&parts)
            .args(PARTS.iter().map(|part| format!("linux-source-{version}/{part}")));
        progress::step("unpacking Linux's selftests in .cache/selftests", &mut tar, progress::LONG)?;
        fs::write(stamp, "")?;
    }
    Ok(parts)
}

/// What of ours is linked into a suite's programs.
fn helpers(suite: &str, bits: u32) -> Vec<PathBuf> {
    match (suite, bits) {
        ("seccomp", 64) => vec![repository("tests/conformance/wait.c")],
        // Debian has libcap for the host's own width only.
        ("seccomp", _) => vec![repository("tests/conformance/wait.c"), repository("tests/conformance/capability.c")],
        _ => Vec::new(),
    }
}

struct Build {
    cache: PathBuf,
    source: PathBuf,
    selftests: PathBuf,
    headers: PathBuf,
}

impl Build {
    /// The headers of the kernel's interface, as programs include them.
    fn install_headers(&self) -> Result<()> {
        if self.headers.join("include/linux/ptrace.h").exists() {
            return Ok(());
        }
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.cache.join("headers-build").display()))
            .arg(format!("INSTALL_HDR_PATH={}", self.headers.display()))
            .args(["ARCH=x86", "headers_install"]);
        progress::step("installing the kernel's headers in .cache/selftests", &mut make, progress::LONG)
    }

    /// A compiler that links statically. One word: some makefiles quote `$CC`.
    fn compiler(&self, bits: Option<u32>) -> Result<PathBuf> {
        let (name, width) = match bits {
            Some(bits) => (format!("cc{bits}"), format!(" -m{bits}")),
            None => ("cc".to_owned(), String::new()),
        };
        let path = self.cache.join(name);
        let script = format!("#!/bin/sh\nexec gcc{width} -static \"$@\"\n");
        if fs::read_to_string(&path).is_ok_and(|old| old == script) {
            return Ok(path);
        }
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn make(&self, suite: &str, output: &Path, compiler: &Path) -> Command {
        let include = self.headers.join("include");
        let mut make = Command::new("make");
        make.arg("-s")
            .arg("-C")
            .arg(self.selftests.join(suite))
            .arg(format!("OUTPUT={}", output.display()))
            .arg(format!("CC={}", compiler.display()))
            .arg(format!("KHDR_INCLUDES=-isystem {}", include.display()))
            .arg(format!("LINUX_HDR_PATH={}", include.display()));
        make
    }

    /// The x86 suite: its makefile builds both widths at once.
    fn x86(&self) -> Result<Vec<Test>> {
        let output = self.cache.join("x86");
        let done = output.join("done");
        if !done.exists() {
            fs::create_dir_all(&output)?;
            let mut make = self.make("x86", &output, &self.compiler(None)?);
            make.arg("-j2");
            progress::step("building the x86 selftests", &mut make, progress::LONG)?;
            fs::write(&done, "")?;
        }
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(&output)? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        names.sort();
        Ok(names
            .iter()
            .filter_map(|file| {
                let (name, bits) = file.rsplit_once('_')?;
                let bits = bits.parse().ok()?;
                Some(test(format!("x86/{name}"), bits, output.join(file)))
            })
            .collect())
    }

    fn by_makefile(&self, suite: &str, programs: &[&str], bits: u32) -> Result<Vec<Test>> {
        let output = self.cache.join(format!("{}-{bits}", suite.replace('/', "-")));
        fs::create_dir_all(&output)?;
        let mut tests = Vec::new();
        for program in programs {
            if !self.selftests.join(suite).join(format!("{program}.c")).exists() {
                continue;
            }
            let path = output.join(program);
            let helpers = helpers(suite, bits);
            if !is_current(&path, &helpers) {
                let mut make = self.make(suite, &output, &self.compiler(Some(bits))?);
                // -B: for make, a program is up to date when Linux's own sources have not changed.
                make.arg("-B").arg(&path);
                if !helpers.is_empty() {
                    let mut libraries = helpers.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
                    if bits == 64 {
                        libraries.push("-lcap".to_owned());
                    }
                    make.arg(format!("LDLIBS={}", libraries.join(" ")));
                }
                let title = format!("building the selftest {suite}/{program}, {bits} bits");
                progress::step(&title, &mut make, progress::LONG)?;
            }
            tests.push(test(format!("{suite}/{program}"), bits, path));
        }
        Ok(tests)
    }

    /// The rseq suite: its makefile makes a shared library, which a static program cannot have.
    fn rseq(&self, bits: u32) -> Result<Vec<Test>> {
        let sources = self.selftests.join("rseq");
        let output = self.cache.join(format!("rseq-{bits}"));
        fs::create_dir_all(&output)?;
        let mut tests = Vec::new();
        for (name, file, flag) in RSEQ {
            if !sources.join(file).exists() {
                continue;
            }
            let path = output.join(name);
            if !path.exists() {
                let mut gcc = Command::new(self.compiler(Some(bits))?);
                gcc.args(["-O2", "-Wall", "-g", "-I"])
                    .arg(&sources)
                    .arg("-isystem")
                    .arg(self.headers.join("include"))
                    .arg("-I")
                    .arg(self.source.join("tools/include"))
                    .arg("-I")
                    .arg(self.source.join("tools/arch/x86/include"))
                    .arg("-I")
                    .arg(&self.selftests)
                    .args(flag)
                    .args([sources.join(file), sources.join("rseq.c")])
                    .arg("-o")
                    .arg(&path)
                    .args(["-lpthread", "-ldl"]);
                progress::step(&format!("building the selftest rseq/{name}, {bits} bits"), &mut gcc, progress::LONG)?;
            }
            let modes = if name.starts_with("param_test") { param_test_modes() } else { vec![(String::new(), false)] };
            for (arguments, extended) in modes {
                let name = format!("rseq/{name} {arguments}");
                let mut test = test(name.trim_end().to_owned(), bits, path.clone());
                test.arguments = arguments.split_whitespace().map(str::to_owned).collect();
                test.environment.push(RSEQ_ENVIRONMENT);
                test.extended = extended;
                tests.push(test);
            }
        }
        Ok(tests)
    }
}

fn test(name: String, bits: u32, program: PathBuf) -> Test {
    Test { name, bits, program, arguments: Vec::new(), environment: Vec::new(), limit: LIMIT, extended: false }
}

/// The runner, compiled.
pub fn runner() -> Result<PathBuf> {
    crate::test::guest_program("runner").context("the runner of the tests")
}
