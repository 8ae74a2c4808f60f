//! Suite `fuzz`: each target of `./x fuzz` for a while. What libFuzzer finds in that time differs from run to run.

use anyhow::Result;

use super::report::Report;
use crate::fuzz;

/// How long each target runs.
const SECONDS: u64 = 20;

/// Runs the suite.
pub fn run(report: &mut Report) -> Result<()> {
    let programs = fuzz::build()?;
    for target in fuzz::targets()? {
        let outcome = match fuzz::run(&target, &programs.join(&target), SECONDS) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{status}; what libFuzzer says of it stands above")),
            Err(error) => Err(format!("{error:#}")),
        };
        report.outcome(&format!("fuzz/{target}"), outcome);
    }
    Ok(())
}
