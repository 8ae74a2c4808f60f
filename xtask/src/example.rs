//! The kernels of `examples/`: building them, and `./x example`.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::qemu::{Boot, Console, Ending, Machine};
use crate::toolchain::{TARGET, Toolchain};
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
}

impl Kernel {
    /// Its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Kernel::Minimal | Kernel::Loop => "examples/minimal",
            Kernel::Preemptive => "examples/preemptive",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Minimal => "minimal",
            Kernel::Loop => "loop",
            Kernel::Preemptive => "preemptive",
        }
    }

    /// Builds it, and gives its image.
    pub fn build(self) -> Result<PathBuf> {
        Ok(build_folder(self.folder(), true)?.join(format!("portcullis-{}", self.name())))
    }
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
    let machine = Machine { smp: args.smp, cpu: args.cpu, ..Machine::default() };
    let boot = Boot::new(machine, &args.kernel.build()?);
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
    let target = directory.join(if checked { "target" } else { "target/unchecked" });
    let mut cargo = Toolchain::install()?.cargo("build");
    cargo
        .args(["--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    if !checked {
        cargo.args(["--config", "profile.release.debug-assertions=false"]);
    }
    let shown = format!("{cargo:?}");
    let status = progress::status(&mut cargo, "cargo to build the examples", progress::BUILD)?;
    if !status.success() {
        bail!("it could not be built ({status}). The errors stand above; tried, in {folder}/: {shown}");
    }
    Ok(target.join(TARGET).join("release"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    const PREEMPTIVE: [&str; 6] =
        ["Cargo.toml", ".cargo/config.toml", "src/main.rs", "src/tasks.rs", "src/calls.rs", "src/programs.s"];

    fn read(path: &str) -> String {
        fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What someone has in each file who types what the page says. A block goes to the file that the line before it names.
    fn typed(page: &str) -> BTreeMap<&str, String> {
        let mut files = BTreeMap::<_, String>::new();
        let (mut file, mut inside) = (None, false);
        for line in page.lines() {
            if line.starts_with("```") {
                inside = !inside;
                file = file.filter(|_| inside);
            } else if let (true, Some(file)) = (inside, file) {
                let text = files.entry(file).or_default();
                text.push_str(line);
                text.push('\n');
            } else if !inside && !line.is_empty() {
                file = line.strip_prefix("In `").and_then(|line| line.strip_suffix("`:"));
            }
        }
        files
    }

    fn without_blank_lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn who_types_the_tutorial_has_the_kernel() {
        let page = read("examples/preemptive/README.md");
        let typed = typed(&page);
        assert_eq!(typed.len(), PREEMPTIVE.len(), "{:?}", typed.keys());
        for file in PREEMPTIVE {
            let source = read(&format!("examples/preemptive/{file}"));
            let (typed, source) = (without_blank_lines(&typed[file]), without_blank_lines(&source));
            let differs = typed.iter().zip(&source).find(|(typed, source)| typed != source);
            assert_eq!(differs, None, "{file}: typed, and what the source has");
            assert_eq!(typed.len(), source.len(), "{file}: lines");
        }
    }

    #[test]
    fn the_page_is_read_as_it_is_typed() {
        let page = "In `a`:\n\n```rust\n1\n```\n\nIn b:\n\n```text\nno\n```\n\nIn `a`:\n\n```rust\n\n2\n```\n```text\nno\n```\n";
        assert_eq!(typed(page), BTreeMap::from([("a", "1\n\n2\n".to_owned())]));
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
