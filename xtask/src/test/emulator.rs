//! Suite `emulator`: what docs/emulators.md says of this emulator is what it shows ([`probe`]).

use std::fs;

use anyhow::{Context, Result};

use super::report::Report;
use crate::emulator::Emulator;
use crate::{probe, repository};

/// Runs the suite: QEMU, and with `bochs` Bochs. One that has no column on the page is measured, and compared with nothing.
pub fn run(bochs: bool, report: &mut Report) -> Result<()> {
    check(Emulator::Qemu, report)?;
    if bochs {
        check(Emulator::Bochs, report)?;
    }
    Ok(())
}

/// Asks one emulator.
pub fn check(which: Emulator, report: &mut Report) -> Result<()> {
    let page = fs::read_to_string(repository("docs/emulators.md")).context("docs/emulators.md")?;
    let version = probe::version(which)?;
    let answers = probe::answers(which, false)?;
    let Some(column) = probe::on_page(&page, &version) else {
        report
            .skip(&format!("emulator/{version}"), "docs/emulators.md has no column for it; `./x emulator` prints one");
        return Ok(());
    };
    for (question, answer) in answers {
        let told = column.get(question.text).map_or("nothing", String::as_str);
        let outcome =
            if told == answer { Ok(()) } else { Err(format!("it is `{answer}`, and the page says `{told}`")) };
        report.outcome(&format!("emulator/{version}: {}", question.text), outcome);
    }
    Ok(())
}
