//! Suite `differential`: random programs in the reference kernel and in Debian's Linux, every observable compared.

use anyhow::Result;

use super::report::Report;
use crate::kernel;
use crate::prove::differential::compared;

/// How often the boundary is crossed: some seconds' worth.
const CROSSINGS: u64 = 20_000;

/// Runs the suite, with a fixed seed.
pub fn run(report: &mut Report) -> Result<()> {
    const SEED: u64 = 5;
    let totals = compared(&kernel::build_checked(false)?, SEED, CROSSINGS)?;
    let name = format!("differential/seed {SEED}");
    for difference in &totals.differences {
        report.fail(&name, difference);
    }
    totals.by_chance.iter().for_each(|difference| report.note(difference));
    if totals.differences.is_empty() {
        report.pass(&name);
        report.note(&format!("{} crossings by {} scripts", totals.crossings, totals.scripts));
    }
    Ok(())
}
