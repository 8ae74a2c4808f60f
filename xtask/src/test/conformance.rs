//! Suite `conformance`: Linux's own selftests in the reference kernel, against the record of what stock Linux gives.

use anyhow::Result;

use super::report::Report;
use crate::selftests::compare::Verdict;
use crate::{conformance, kernel};

/// Runs the suite: all tests but the injections of rseq's param_test, on one machine. More of both:
/// `./x conformance --no-stock`.
pub fn run(report: &mut Report) -> Result<()> {
    for row in conformance::against_record(&kernel::build_checked(false)?)? {
        let name = format!("conformance/{}, {} bits", row.test, row.bits);
        match &row.verdict {
            Verdict::Different => {
                let mut reason = format!("{} (stock: {})", row.ours, row.stock);
                for line in &row.difference {
                    reason.push_str(&format!("\n      {line}"));
                }
                report.fail(&name, &reason);
            }
            Verdict::Known(reason) => {
                report.pass(&name);
                report.note(&format!("{} where stock gives {}: {reason}", row.ours, row.stock));
            }
            _ => report.pass(&name),
        }
    }
    Ok(())
}
