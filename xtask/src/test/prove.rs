//! Suite `prove`: the machine code of the doors, in the images that the other suites run.

use anyhow::Result;

use super::report::Report;
use crate::prove::{Line, Subject, solver};
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
    Ok(())
}
