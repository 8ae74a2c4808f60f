//! Suite `lint`: what `./x lint` and `./x doc` check, each as one test.

use anyhow::Result;

use super::report::Report;
use crate::lint;

/// Runs the suite.
pub fn run(report: &mut Report) -> Result<()> {
    for check in lint::all()? {
        let name = format!("lint/{}", check.name);
        match check.passes() {
            Ok(true) => report.pass(&name),
            Ok(false) => report.fail(&name, "see above"),
            Err(reason) => report.skip(&name, &reason),
        }
    }
    Ok(())
}
