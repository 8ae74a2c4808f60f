//! The kernels of `examples/`: building them, and `./x example`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::image::{OVMF, OVMF_IMAGE};
use crate::qemu::{Boot, Console, Disc, Ending, Machine, MachineType};
use crate::toolchain::{TARGET, Toolchain, ensure_target};
use crate::{progress, repository, setup};

/// QEMU's exit status after the kernel wrote 0x10 to the exit port.
pub const STATUS: i32 = 33;

/// A kernel of `examples/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// The smallest kernel
    Minimal,
    /// The same, written as a loop
    Loop,
    /// Two CPUs, tasks, exit work of its own, upcalls, a tracer
    Preemptive,
    /// A kernel as the tutorials make it, on the crate `bootloader`: by UEFI, on one CPU
    BlogOs,
}

impl Kernel {
    /// Its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Kernel::Minimal | Kernel::Loop => "examples/minimal",
            Kernel::Preemptive => "examples/preemptive",
            Kernel::BlogOs => BLOG_OS,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Minimal => "minimal",
            Kernel::Loop => "loop",
            Kernel::Preemptive => "preemptive",
            Kernel::BlogOs => "blog-os",
        }
    }

    /// Builds it, and gives its image.
    pub fn build(self) -> Result<PathBuf> {
        Ok(build_folder(self.folder(), true)?.join(format!("portcullis-{}", self.name())))
    }

    /// A boot of its image.
    pub fn boot(self, image: &Path, cpu: &str, smp: u32) -> Result<Boot> {
        let machine = Machine { cpu: cpu.to_owned(), smp, ..Machine::default() };
        match self {
            Kernel::BlogOs => boot_by_uefi(image, machine),
            _ => Ok(Boot::new(machine, image)),
        }
    }
}

/// The folder of the kernel that the crate `bootloader` boots.
pub const BLOG_OS: &str = "examples/blog-os";

/// The files of it that its page types.
pub const TYPED: [&str; 4] = ["src/main.rs", "src/doors.rs", "src/user.rs", "src/user.s"];

/// What the crate `bootloader` is compiled for.
const UEFI_TARGET: &str = "x86_64-unknown-uefi";

/// A boot of a kernel on `bootloader_api`: UEFI starts the bootloader, and that the kernel beside it.
pub fn boot_by_uefi(image: &Path, machine: Machine) -> Result<Boot> {
    setup::ensure(&[OVMF, setup::LINKER])?;
    let directory = repository(BLOG_OS);
    let disc = directory.join("target/disc");
    let programs = disc.join("EFI/BOOT");
    fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
    fs::copy(image, disc.join("kernel-x86_64")).with_context(|| format!("cannot copy {}", image.display()))?;
    write_bootloader(&programs.join("BOOTX64.EFI"))?;
    let extra = ["-bios", OVMF_IMAGE].map(Into::into).into();
    let mut boot = Boot::new(Machine { machine: MachineType::Q35, extra, ..machine }, image);
    boot.disc = Some(Disc::Folder(disc));
    Ok(boot)
}

/// Builds the crate `bootloader` for UEFI, with the `rustc` in PATH, for which a kernel on it needs a nightly one.
fn write_bootloader(file: &Path) -> Result<()> {
    ensure_target(UEFI_TARGET)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["run", "--release", "--locked", "--"])
        .arg(file)
        .current_dir(repository(BLOG_OS).join("bootloader"))
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let status = progress::status(&mut cargo, "cargo to build the bootloader", progress::BUILD)?;
    if !status.success() {
        bail!("the bootloader could not be built ({status}). The errors stand above; tried {cargo:?}");
    }
    Ok(())
}

/// Boots a kernel of examples/ in QEMU, with its output on standard output
#[derive(clap::Args)]
pub struct ExampleArgs {
    /// Which one
    #[arg(value_enum)]
    kernel: Kernel,
    /// How many CPUs the machine has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// CPU model (what `qemu-system-x86_64 -cpu help` lists)
    #[arg(long, value_name = "MODEL", default_value = crate::qemu::DEFAULT_CPU)]
    cpu: String,
}

/// Runs the command.
pub fn run(args: ExampleArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::QEMU, setup::LINKER])?;
    let boot = args.kernel.boot(&args.kernel.build()?, &args.cpu, args.smp)?;
    let (input, output) = (Box::new(std::io::empty()), Box::new(std::io::stdout()));
    let outcome = boot.run(Console::Stream { input, output, errors: None })?;
    match outcome.ending {
        Ending::Quit(status) if status.code() == Some(STATUS) => Ok(ExitCode::SUCCESS),
        ending => bail!("the kernel ended with {ending:?}"),
    }
}

/// Builds the kernels of `examples/minimal`, with the library's assertions (`checked`, as they are in its profile) or without, and
/// gives the folder of their images.
pub fn build(checked: bool) -> Result<PathBuf> {
    build_folder(Kernel::Minimal.folder(), checked)
}

/// Builds the kernels of a folder of the repository.
pub fn build_folder(folder: &str, checked: bool) -> Result<PathBuf> {
    let directory = repository(folder);
    match checked {
        true => build_in(&directory, &directory.join("target"), &[]),
        false => {
            let unchecked = ["--config", "profile.release.debug-assertions=false"];
            build_in(&directory, &directory.join("target/unchecked"), &unchecked)
        }
    }
}

/// Builds the kernels of a folder, with these arguments for cargo, below `target`.
pub fn build_in(directory: &Path, target: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = Toolchain::install()?.cargo("build");
    cargo
        .args(["--release", "--locked", "--target-dir"])
        .arg(target)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let shown = format!("{cargo:?}");
    let status = progress::status(&mut cargo, "cargo to build the examples", progress::BUILD)?;
    if !status.success() {
        bail!("it could not be built ({status}). The errors stand above; tried, in {}: {shown}", directory.display());
    }
    Ok(target.join(TARGET).join("release"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tutorial;

    const PREEMPTIVE: [&str; 6] =
        ["Cargo.toml", ".cargo/config.toml", "src/main.rs", "src/tasks.rs", "src/calls.rs", "src/programs.s"];

    fn read(path: &str) -> String {
        fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn without_blank_lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.is_empty()).collect()
    }

    /// Holds what someone has who types a page against the files of its folder: these.
    fn is_typed(folder: &str, files: &[&str]) {
        let typed = tutorial::steps(&read(&format!("{folder}/README.md"))).unwrap().pop().unwrap().files;
        assert_eq!(
            typed.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            files.iter().copied().collect(),
            "{folder}"
        );
        for (file, typed) in &typed {
            let source = read(&format!("{folder}/{file}"));
            let (typed, source) = (without_blank_lines(typed), without_blank_lines(&source));
            let differs = typed.iter().zip(&source).find(|(typed, source)| typed != source);
            assert_eq!(differs, None, "{folder}/{file}: typed, and what the source has");
            assert_eq!(typed.len(), source.len(), "{folder}/{file}: lines");
        }
    }

    #[test]
    fn who_types_the_tutorials_has_the_kernels() {
        is_typed("examples/preemptive", &PREEMPTIVE);
        is_typed(BLOG_OS, &TYPED);
    }

    #[test]
    fn the_template_is_the_example() {
        for file in PREEMPTIVE.into_iter().filter(|&file| file != "Cargo.toml") {
            let [example, template] =
                ["examples", "templates"].map(|folder| read(&format!("{folder}/preemptive/{file}")));
            assert_eq!(example, template, "{file}");
        }
    }

    /// What a reader is promised: all lines of the one, and those of the other that are neither blank nor a comment.
    #[test]
    fn the_examples_are_as_short_as_their_pages_say() {
        assert!(read("examples/minimal/README.md").contains("A kernel in 120 lines"));
        assert!(read("examples/minimal/src/main.rs").lines().count() <= 120);
        assert!(read("examples/preemptive/README.md").contains("350 lines of Rust"));
        let code = |file: &str| {
            let text = read(&format!("examples/preemptive/src/{file}.rs"));
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
        };
        assert!(["main", "tasks", "calls"].map(code).iter().sum::<usize>() <= 350);
    }
}
