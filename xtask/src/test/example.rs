//! Suite `example`: the kernels of `examples/` build, boot, and say what they should; so does what the template makes.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::report::Report;
use crate::console::Capture;
use crate::example::{self, Kernel, STATUS, TYPED};
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::toolchain::{TARGET, Toolchain};
use crate::tutorial::{self, Step};
use crate::{progress, repository};

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(300);

/// All that the kernels of `examples/minimal` print.
const MINIMAL: &str = "\
kernel: the doors are open
user: hello
kernel: ud2 in user mode, stepping over it
user: still here
kernel: the program exits with status 17
kernel: schedule was called 1 time(s)
";

/// The last line of `examples/preemptive`, but for the number.
const SCHEDULED: (&str, &str) = ("kernel: the first task exits; schedule ran ", " times\n");
/// How often it is at least on one CPU, where two tasks play 50 times each, and each turn of theirs takes a preemption.
const TURNS: u32 = 99;

/// Runs the suite.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    // A CPU with all that the doors can use, and one with next to nothing of it.
    for kernel in [Kernel::Minimal, Kernel::Loop] {
        let image = kernel.build()?;
        for cpu in ["max", "qemu64"] {
            let outcome = kernel.boot(&image, cpu, 1).and_then(printed).and_then(|text| expect(&text, MINIMAL));
            let name = format!("example/{} on {cpu}", kernel.name());
            report.outcome(&name, outcome.map_err(|error| format!("{error:#}")));
        }
    }
    let image = Kernel::Preemptive.build()?;
    for cpu in ["Skylake-Server", "EPYC"] {
        for cpus in [1, 2] {
            let outcome = preemptive(&image, cpu, cpus).map_err(|error| format!("{error:#}"));
            report.outcome(&format!("example/preemptive on {cpu}, {cpus} CPU(s)"), outcome);
        }
    }
    report.outcome("example/the template makes the same kernel", template().map_err(|error| format!("{error:#}")));
    let steps = tutorial::steps(&fs::read_to_string(repository(example::BLOG_OS).join("README.md"))?)?;
    for (number, step) in steps.into_iter().enumerate().filter(|(_, step)| step.prints.is_some()) {
        let name = match number {
            0 => "example/blog-os before".to_owned(),
            _ => format!("example/blog-os, step {number}"),
        };
        match all {
            false => report.skip(&name, "it takes the crate `bootloader`, a minute to build: ./x test --all"),
            true => report.outcome(&name, blog_os(&step).map_err(|error| format!("{error:#}"))),
        }
    }
    Ok(())
}

/// Types a step of the page of `examples/blog-os`, builds it, and compares what the kernel prints.
fn blog_os(step: &Step) -> Result<()> {
    const BEFORE: &str = "portcullis-blog-os-before";
    let folder = repository(example::BLOG_OS);
    let target = folder.join("target");
    let image = if step.files.is_empty() {
        example::build_in(&folder, &target, &["--features", "before", "--bin", BEFORE])?.join(BEFORE)
    } else {
        let typed = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        for name in ["src", ".cargo"] {
            copy(&folder.join(name), &typed.path().join(name))?;
        }
        fs::copy(folder.join("Cargo.lock"), typed.path().join("Cargo.lock"))?;
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        let library = format!("{:?}", repository("portcullis"));
        fs::write(typed.path().join("Cargo.toml"), manifest.replace("\"../../portcullis\"", &library))?;
        for file in TYPED {
            match step.files.get(file) {
                Some(text) => fs::write(typed.path().join(file), text)?,
                None => fs::remove_file(typed.path().join(file))?,
            }
        }
        example::build_in(typed.path(), &target, &[])?.join("portcullis-blog-os")
    };
    let machine = Machine { cpu: "max".to_owned(), ..Machine::default() };
    let text = printed(example::boot_by_uefi(&image, machine)?)?;
    // The firmware prints on the same port.
    let start = text.find("kernel: ").context("the kernel prints nothing")?;
    expect(&text[start..], step.prints.as_deref().unwrap_or_default())
}

fn expect(printed: &str, expected: &str) -> Result<()> {
    ensure!(printed == expected, "it printed something else:\n{printed}");
    Ok(())
}

/// What a kernel prints that ends well.
fn printed(mut boot: Boot) -> Result<String> {
    boot.timeout = Some(LIMIT);
    let console = Capture::default();
    let outcome = boot.run(Console::capture(&console))?;
    let text = console.text();
    let ended_well = matches!(outcome.ending, Ending::Quit(status) if status.code() == Some(STATUS));
    ensure!(ended_well, "it ended with {:?} and not exit status {STATUS}:\n{text}", outcome.ending);
    Ok(text)
}

/// Compares what `examples/preemptive` prints with its page.
fn preemptive(kernel: &Path, cpu: &str, cpus: u32) -> Result<()> {
    let page = fs::read_to_string(repository("examples/preemptive/README.md"))?;
    let mut runs = tutorial::steps(&page)?.into_iter().filter_map(|step| step.prints);
    let shown = runs.next_back().context("the page shows no run")?;
    let shown = shown.replace("CPUs: 2", &format!("CPUs: {cpus}"));
    let printed = printed(Kernel::Preemptive.boot(kernel, cpu, cpus)?)?;
    let (expected, _) = shown.split_once(SCHEDULED.0).context("the run on the page has no last line")?;
    let (text, last) = printed.split_once(SCHEDULED.0).with_context(|| format!("no last line:\n{printed}"))?;
    expect(text, expected)?;
    let times: u32 = last.strip_suffix(SCHEDULED.1).context("no number of times")?.parse()?;
    ensure!(cpus > 1 || times >= TURNS, "on one CPU schedule ran {times} times, and the players alone need {TURNS}");
    Ok(())
}

/// Does what `cargo generate` does with the template, and boots what comes of it, with the library and the companion of this tree.
fn template() -> Result<()> {
    const NAME: &str = "my-kernel";
    let folder = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    copy(&repository("templates/preemptive"), folder.path())?;
    fs::remove_file(folder.path().join("cargo-generate.toml"))?;
    let manifest = folder.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?.replace("{{project-name}}", NAME);
    ensure!(!text.contains("{{") && !text.contains("{%"), "Cargo.toml has other placeholders:\n{text}");
    fs::write(&manifest, text)?;
    // The versions that the example is built with, so that the registry is not asked.
    let lock = fs::read_to_string(repository("examples/preemptive/Cargo.lock"))?;
    fs::write(folder.path().join("Cargo.lock"), lock.replace("portcullis-preemptive", NAME))?;
    // What is built already is the same.
    let target = repository("examples/preemptive/target");
    let mut cargo = Toolchain::install()?.cargo("build");
    cargo.args(["--release", "--offline", "--target-dir"]).arg(&target).current_dir(folder.path());
    for (name, path) in [("portcullis-gate", "portcullis"), ("portcullis-boot", "crates/boot")] {
        cargo.arg("--config").arg(format!("patch.crates-io.{name}.path={:?}", repository(path)));
    }
    cargo.stdin(Stdio::null()).stdout(std::io::stderr());
    let status = progress::status(&mut cargo, "cargo to build the template", progress::BUILD)?;
    if !status.success() {
        bail!("it could not be built ({status}); the errors stand above");
    }
    preemptive(&target.join(TARGET).join("release").join(NAME), "max", 2)
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}
