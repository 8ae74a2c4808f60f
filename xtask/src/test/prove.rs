//! Suite `prove`: the machine code of the doors, in the images that the other suites run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use iced_x86::{Mnemonic, Register};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use super::guest;
use super::report::Report;
use crate::prove::{Cpu, Failure, Image, Line, Property, Solver, Subject, solver};
use crate::qemu::Machine;
use crate::{example, kernel};

/// Runs the suite; with `all` it also takes out each instruction.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    let mut solver = solver()?;
    let mut subjects = Vec::new();
    for isolation in [false, true] {
        subjects.extend(Subject::of("kernel", &kernel::build_checked(isolation)?, isolation)?);
    }
    let fred = kernel::Build { checked: true, fred: true, ..kernel::Build::default() }.run()?;
    subjects.extend(Subject::of("kernel for FRED,", &fred, false)?);
    subjects.extend(Subject::of("minimal", &example::build(true)?.join("portcullis-minimal"), false)?);
    for subject in &subjects {
        subject.prove(&mut solver, |Line { door, absent, proved, .. }| {
            let name = format!("prove/{}/{door}", subject.name);
            match proved.failures.first() {
                _ if *absent => report.skip(&name, "not in this image"),
                None => report.pass(&name),
                Some(failure) => report.fail(&name, &subject.describe(failure)),
            }
        })?;
        if subject.is_patched() {
            // Two take a minute.
            let explored = subject.explore(&mut solver, if all { 2 } else { 1 })?;
            let name = format!("prove/{}/events in an NMI, {} ways", subject.name, explored.ways);
            let outcome = explored.losses.first().map_or(Ok(()), |loss| Err(subject.describe_loss(loss)));
            report.outcome(&name, outcome);
        }
        let name = format!("prove/{}/each instruction is missed", subject.name);
        if all {
            let outcome = match subject.ablate(&mut solver)? {
                0 => Ok(()),
                survivors => Err(format!("{survivors} instructions can be taken out unnoticed: they stand above")),
            };
            report.outcome(&name, outcome);
        } else {
            report.skip(&name, "takes minutes: ./x test --all, or ./x prove doors --ablate");
        }
    }
    report.outcome(
        "prove/a counterexample fails where it was found, and nowhere else",
        counterexample(&mut solver).map_err(|error| format!("{error:#}")),
    );
    Ok(())
}

/// Breaks a door, and runs the counterexample in the broken kernel and in the whole one.
fn counterexample(solver: &mut Solver) -> Result<()> {
    let kernel = kernel::build_checked(false)?;
    let directory = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let broken = directory.path().join("broken");
    break_way_out(&kernel, &broken)?;
    let subjects = Subject::of("broken", &broken, false)?;
    let subject = subjects.first().context("an image")?;
    let mut text = None;
    subject.prove(solver, |Line { door, proved, .. }| {
        let in_r9 = |failure: &&Failure| failure.property == Property::WayOut && failure.what.starts_with("r9");
        if *door == "SYSCALL"
            && let Some(failure) = proved.failures.iter().find(in_r9)
        {
            text = Some(subject.counterexample(failure));
        }
    })?;
    let text = text.context("the proof does not miss R9")?.map_err(|why| anyhow!(why))?;
    let source = directory.path().join("counterexample.c");
    fs::write(&source, text)?;
    let program = guest::compile_elsewhere(&source)?;
    let in_whole = program.failure(&Machine::default(), &kernel)?;
    ensure!(in_whole.is_none(), "in the whole kernel: {in_whole:?}");
    let in_broken = program.failure(&Machine::default(), &broken)?.unwrap_or_default();
    ensure!(in_broken.contains("the registers are as before: r8 is"), "in the broken kernel: {in_broken:?}");
    Ok(())
}

/// An image whose door of SYSCALL pops R8's word into R9.
fn break_way_out(kernel: &Path, broken: &Path) -> Result<()> {
    const POP_R8: [u8; 2] = [0x41, 0x58];
    const POP_R9: [u8; 2] = [0x41, 0x59];
    let image = Image::read(kernel, Cpu { smap: true, verw: true })?;
    let mut at = image.find("portcullis::x86_64::syscall64::syscall64_entry")?;
    loop {
        let instruction = image.instruction(at)?;
        if instruction.mnemonic() == Mnemonic::Pop && instruction.op0_register() == Register::R8 {
            break;
        }
        ensure!(image.is_in_a_door(at), "the door does not pop R8");
        at = instruction.next_ip();
    }
    let mut data = fs::read(kernel)?;
    let file = ElfFile64::<Endianness>::parse(&*data)?;
    let text = file.section_by_name(".text").context("the image has no .text")?;
    let (offset, _) = text.file_range().context("the text is in the file")?;
    let place = (offset + at - text.address()) as usize;
    let bytes = data.get_mut(place..place + 2).context("the door is in the file")?;
    ensure!(bytes == POP_R8, "there is {bytes:x?}");
    bytes.copy_from_slice(&POP_R9);
    fs::write(broken, data)?;
    Ok(())
}
