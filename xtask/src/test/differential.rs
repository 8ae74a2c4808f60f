//! Suite `differential`: random programs in the reference kernel and in Debian's Linux, every observable compared.

use anyhow::Result;

use super::report::Report;
use crate::kernel;
use crate::prove::differential::{Width, compared};

/// The programs, by their width and seed. Those of 32 bits are compared by hand so far: docs/differential.md.
const PROGRAMS: [(Width, u64); 4] = [(Width::Bits64, 5), (Width::Bits64, 6), (Width::Bits64, 7), (Width::Bits64, 8)];

/// How often the boundary is crossed by all of them: a million times, or some seconds' worth.
const CROSSINGS: [u64; 2] = [20_000, 1_000_000];

/// Runs the suite: always the same programs, more of each with `all`.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    let kernel = kernel::build_checked(false)?;
    // Few crossings are no more than a boot.
    let programs = if all { &PROGRAMS[..] } else { &PROGRAMS[..1] };
    let crossings = CROSSINGS[usize::from(all)] / programs.len() as u64;
    for (width, seed) in programs {
        let totals = compared(&kernel, *width, *seed, crossings)?;
        let name = format!("differential/{} bits, seed {seed}", width.bits());
        for difference in &totals.differences {
            report.fail(&name, difference);
        }
        totals.by_chance.iter().for_each(|difference| report.note(difference));
        totals.fatal.iter().for_each(|script| report.note(&format!("Linux did not survive the scripts from {script}")));
        if totals.differences.is_empty() {
            report.pass(&name);
            report.note(&format!("{} crossings by {} scripts", totals.crossings, totals.scripts));
        }
    }
    Ok(())
}
