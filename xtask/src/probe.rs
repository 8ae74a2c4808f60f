//! `./x emulator`: what an emulator shows of a processor. A kernel of its own asks it, `tests/emulator/probe.c`, which is in ring 0
//! with nothing of ours between; docs/emulators.md has the answers as a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::console::Capture;
use crate::emulator::{self, Emulator};
use crate::qemu::{Boot, Console, DEFAULT_CPU, Ending, Machine};
use crate::{bochs, is_current, progress, repository, setup};

/// Boots a small kernel that asks the emulator what it shows of a processor, and prints the answers as docs/emulators.md has them.
#[derive(clap::Args)]
pub struct EmulatorArgs {
    /// Which emulator
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Emulator::Qemu)]
    emulator: Emulator,
}

/// A row of the page's table.
pub struct Question {
    /// What the kernel calls it.
    key: &'static str,
    /// What the page calls it.
    pub text: &'static str,
    /// Whether the answer is that of the model with the most features, and not of an Intel model.
    feature: bool,
}

const fn question(key: &'static str, text: &'static str) -> Question {
    Question { key, text, feature: false }
}

const fn feature(key: &'static str) -> Question {
    Question { key, text: key, feature: true }
}

/// The rows in their order.
pub const QUESTIONS: &[Question] = &[
    question("sysret-non-canonical", "SYSRET to a non-canonical address, Intel: #GP in ring 0"),
    question("iret-non-canonical", "IRET to a non-canonical address: #GP in ring 0"),
    question("mov-ss", "MOV SS puts a watchpoint's exception off to the next instruction's end"),
    question("iret-null", "IRET to user mode zeroes FS and GS that are null"),
    question("icebp", "ICEBP: #DB in ring 3"),
    question("into", "INTO in 64-bit mode: #UD"),
    question("wbinvd", "WBINVD in user mode: #GP in ring 3"),
    question("int-error", "INT N without a gate: the error code is 8 N + 2"),
    question("far-return-smap", "far return in user mode with SMAP"),
    question("syscall-32", "SYSCALL from 32-bit code, Intel: #UD"),
    question("syscall-tf", "SYSCALL with TF that SFMASK clears: no exception"),
    question("sysret-ss", "SYSRET after SS was null, Intel: SS is flat"),
    question("idiv", "IDIV of 64 bits"),
    question("instruction-breakpoint", "instruction breakpoint, one CPU"),
    question("serial", "a serial port takes time for a byte"),
    feature("FSGSBASE"),
    feature("x2APIC"),
    feature("UMIP"),
    feature("SMAP"),
    feature("PKU"),
    feature("CET"),
    feature("LASS"),
    feature("LKGS"),
    feature("FRED"),
];

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the command.
pub fn run(args: EmulatorArgs) -> Result<ExitCode> {
    let answers = answers(args.emulator, emulator::bochs().is_some())?;
    println!("| what a processor does | {} |\n| --- | --- |", version(args.emulator)?);
    for (question, answer) in answers {
        println!("| {} | {answer} |", question.text);
    }
    Ok(ExitCode::SUCCESS)
}

/// The emulator's name and version, as the page's columns begin: `QEMU 7.2`.
pub fn version(which: Emulator) -> Result<String> {
    let (name, mut command, before) = match which {
        Emulator::Qemu => ("QEMU", Command::new(emulator::qemu()), "version "),
        Emulator::Bochs => ("Bochs", bochs::command()?, "Bochs x86 Emulator "),
    };
    let output = progress::output(command.arg(if name == "QEMU" { "--version" } else { "--help" }))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = text.split(before).nth(1).and_then(|rest| rest.split_whitespace().next());
    let number = number.with_context(|| format!("{name} does not say its version: {text}"))?;
    let parts: Vec<&str> = number.split('.').take(2).collect();
    Ok(format!("{name} {}", parts.join(".")))
}

/// Each question, and what the emulator answers. `fred`: Bochs's model shows FRED.
pub fn answers(which: Emulator, fred: bool) -> Result<Vec<(&'static Question, String)>> {
    let kernel = kernel()?;
    let (intel, richest) = match which {
        Emulator::Qemu => ("Skylake-Client", DEFAULT_CPU),
        Emulator::Bochs => (bochs::DEFAULT_MODEL, bochs::DEFAULT_MODEL),
    };
    let of = |cpu: &str| -> Result<BTreeMap<String, String>> {
        let machine = Machine { cpu: cpu.to_owned(), emulator: which, fred, ..Machine::default() };
        let mut boot = Boot::new(machine, &kernel);
        boot.timeout = Some(LIMIT);
        let outcome = boot.run(Console::capture(&Capture::default()))?;
        ensure!(
            matches!(outcome.ending, Ending::Exit(0)),
            "on {cpu} it ended with {:?}; so far:\n{}",
            outcome.ending,
            outcome.log
        );
        let answers = outcome.log.lines().filter_map(|line| line.split_once(": "));
        Ok(answers.map(|(key, answer)| (key.to_owned(), answer.to_owned())).collect())
    };
    let behavior = of(intel)?;
    let features = if richest == intel { behavior.clone() } else { of(richest)? };
    ensure!(behavior.get("vendor").is_some_and(|vendor| vendor == "Intel"), "{intel} is no Intel model");
    let answer = |question: &'static Question| {
        let answers = if question.feature { &features } else { &behavior };
        let answer = answers.get(question.key).with_context(|| format!("no answer to `{}`", question.key))?;
        Ok((question, answer.clone()))
    };
    QUESTIONS.iter().map(answer).collect()
}

/// The answers that the page has for this emulator; none if it has no column for it.
pub fn on_page(page: &str, version: &str) -> Option<BTreeMap<String, String>> {
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .collect();
    let heading = rows.iter().position(|row| row[0] == "what a processor does")?;
    let is_own = |title: &str| title == version || title.starts_with(&format!("{version} "));
    let column = rows[heading].iter().position(|title| is_own(title))?;
    let cells = rows[heading..].iter().filter_map(|row| Some((row[0].to_owned(), (*row.get(column)?).to_owned())));
    Some(cells.collect())
}

/// Compiles the kernel unless that was done.
fn kernel() -> Result<PathBuf> {
    let source = repository("tests/emulator/probe.c");
    let directory = repository("target/emulator");
    let kernel = directory.join("probe");
    if is_current(&kernel, std::slice::from_ref(&source)) {
        return Ok(kernel);
    }
    setup::ensure(&[setup::GCC])?;
    fs::create_dir_all(&directory)?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-pic", "-no-pie", "-nostdlib", "-static"])
        .args(["-mno-red-zone", "-mgeneral-regs-only", "-fcf-protection=none", "-fno-stack-protector"])
        .args([
            "-fno-tree-loop-distribute-patterns",
            "-Wl,-Ttext-segment=0x200000,--build-id=none,-z,noexecstack,-e,start",
        ])
        .arg("-o")
        .arg(&kernel)
        .arg(&source);
    let status = progress::status(&mut gcc, "gcc to build the emulators' kernel", progress::BUILD)?;
    if !status.success() {
        bail!("{} could not be compiled", source.display());
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_question() {
        let page = fs::read_to_string(repository("docs/emulators.md")).unwrap();
        for version in ["QEMU 7.2", "QEMU 10.0", "QEMU 11.1", "Bochs 3.1"] {
            let column = on_page(&page, version).unwrap();
            for question in QUESTIONS {
                assert!(column.contains_key(question.text), "{version}: {}", question.text);
            }
        }
    }

    #[test]
    fn a_column_is_found_by_the_version_it_begins_with() {
        let page =
            "| a | b |\n| what a processor does | QEMU 7.2 (12) | QEMU 7.20 |\n| --- | --- | --- |\n| x | 1 | 2 |\n";
        assert_eq!(on_page(page, "QEMU 7.2").unwrap()["x"], "1");
        assert_eq!(on_page(page, "QEMU 7.20").unwrap()["x"], "2");
        assert_eq!(on_page(page, "QEMU 7"), None);
    }
}
