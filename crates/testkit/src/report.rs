//! What a console's log says: the verdict on each check, and on each row of the catalogue.

use std::fmt::Write;

use crate::catalogue::ROWS;
use crate::tiers::{Check, Kind, Program};

mod hosted;

/// The line behind the log of each boot, where there are several in one log.
pub const MACHINE_ENDED: &str = "\ntestkit: the machine ended\n";

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is well.
    Passed,
    /// It is not, and why.
    Failed(String),
    /// The kernel has not what is checked, and what that is.
    NotApplicable(String),
    /// It did not come to it.
    NotRun,
}

/// A check with its verdict.
pub struct Finding {
    /// Its program.
    pub program: &'static str,
    /// The check's name.
    pub check: String,
    /// The rows that it decides.
    pub rows: Vec<u32>,
    /// What became of it.
    pub verdict: Verdict,
}

/// The findings about programs.
pub struct Report(pub Vec<Finding>);

/// The lines of one program.
struct Part<'a> {
    lines: Vec<&'a str>,
    /// The kernel was alive behind them.
    alive: bool,
}

impl Report {
    /// Reads a log. `killed` is what the kernel prints when it ends a program, if it does.
    #[must_use]
    pub fn read(programs: &[&'static Program], log: &str, killed: Option<&str>) -> Report {
        let findings = programs.iter().flat_map(|program| {
            if program.is_hosted() {
                return hosted::read(program, log);
            }
            let part = Part::find(programs, program, log, killed);
            let mut verdicts: Vec<Verdict> = program
                .checks
                .iter()
                .map(|check| part.as_ref().map_or(Verdict::NotRun, |part| part.verdict(check)))
                .collect();
            // The program ended where it asked for something that this kernel has not.
            let open = program.checks.iter().position(|check| check.kind == Kind::Opens);
            if let Some(Verdict::NotApplicable(reason)) = open.map(|at| verdicts[at].clone()) {
                verdicts.fill(Verdict::NotApplicable(reason));
            }
            if program.may_be_refused && part.is_none() {
                verdicts.fill(Verdict::NotApplicable("the kernel did not run the program".into()));
            }
            let findings = program.checks.iter().zip(verdicts).map(|(check, verdict)| Finding {
                program: program.name,
                check: check.name.to_owned(),
                rows: check.rows.to_vec(),
                verdict,
            });
            findings.collect()
        });
        Report(findings.collect())
    }

    /// The verdict on a row, and the findings that decided it.
    #[must_use]
    pub fn row(&self, number: u32) -> (Verdict, Vec<&Finding>) {
        let of_the_row = || self.0.iter().filter(|finding| finding.rows.contains(&number));
        let having =
            |wanted: fn(&Verdict) -> bool| of_the_row().filter(|finding| wanted(&finding.verdict)).collect::<Vec<_>>();
        let failed = having(|verdict| matches!(verdict, Verdict::Failed(_)));
        if let Some(first) = failed.first() {
            return (first.verdict.clone(), failed);
        }
        let not_run = having(|verdict| *verdict == Verdict::NotRun);
        if !not_run.is_empty() {
            return (Verdict::NotRun, not_run);
        }
        let passed = having(|verdict| *verdict == Verdict::Passed);
        if !passed.is_empty() {
            return (Verdict::Passed, passed);
        }
        let rest: Vec<&Finding> = of_the_row().collect();
        let reason = match rest.first().map(|finding| &finding.verdict) {
            Some(Verdict::NotApplicable(reason)) => reason.clone(),
            _ => "no program of this tier checks it".into(),
        };
        (Verdict::NotApplicable(reason), rest)
    }

    /// The numbers of the rows that failed.
    #[must_use]
    pub fn failed_rows(&self) -> Vec<u32> {
        ROWS.iter().map(|row| row.number).filter(|&row| matches!(self.row(row).0, Verdict::Failed(_))).collect()
    }

    /// Whether nothing failed, nothing was left out, and something passed.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let well = |finding: &Finding| matches!(finding.verdict, Verdict::Passed | Verdict::NotApplicable(_));
        self.0.iter().all(well) && self.0.iter().any(|finding| finding.verdict == Verdict::Passed)
    }

    /// The rows, then what failed or was not run and is in no row, then a line of sums.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut sums = [0; 4];
        let mut unlisted = Vec::new();
        for row in ROWS {
            let (verdict, findings) = self.row(row.number);
            sums[verdict.index()] += 1;
            if findings.is_empty() {
                unlisted.push(row.number.to_string());
                continue;
            }
            let _ = writeln!(text, "{:14} row {:2}: {}", verdict.word(), row.number, row.bug);
            for line in lines(&findings) {
                let _ = writeln!(text, "{:21} {line}", "");
            }
        }
        if !unlisted.is_empty() {
            let rows = unlisted.join(", ");
            let _ = writeln!(text, "{:14} rows {rows}: no program of this tier checks them", "not applicable");
        }
        let others: Vec<&Finding> = self.0.iter().filter(|finding| finding.rows.is_empty()).collect();
        let mut sums_of_others = [0; 4];
        for finding in others {
            sums_of_others[finding.verdict.index()] += 1;
            if matches!(finding.verdict, Verdict::Failed(_) | Verdict::NotRun) {
                let _ = writeln!(text, "{:14} {}", finding.verdict.word(), finding.line());
            }
        }
        for (what, [passed, failed, not_applicable, not_run]) in [("rows", sums), ("checks of no row", sums_of_others)]
        {
            let _ = writeln!(
                text,
                "{what}: {passed} passed, {failed} failed, {not_applicable} not applicable, {not_run} not run"
            );
        }
        text
    }
}

impl Finding {
    fn line(&self) -> String {
        let reason = match &self.verdict {
            Verdict::Failed(reason) | Verdict::NotApplicable(reason) => format!(": {reason}"),
            Verdict::Passed | Verdict::NotRun => String::new(),
        };
        format!("{}/{}{reason}", self.program, self.check)
    }
}

/// A line for each finding; where many checks of a program came to the same, one for all of them.
fn lines(findings: &[&Finding]) -> Vec<String> {
    /// So many have lines of their own.
    const FEW: usize = 8;
    let mut lines = Vec::new();
    for group in
        findings.chunk_by(|one, next| one.program == next.program && one.verdict.index() == next.verdict.index())
    {
        lines.extend(group.iter().take(if group.len() > FEW { 1 } else { FEW }).map(|finding| finding.line()));
        if group.len() > FEW {
            lines.push(format!("{}: {} more checks", group[0].program, group.len() - 1));
        }
    }
    lines
}

impl Verdict {
    fn index(&self) -> usize {
        match self {
            Verdict::Passed => 0,
            Verdict::Failed(_) => 1,
            Verdict::NotApplicable(_) => 2,
            Verdict::NotRun => 3,
        }
    }

    fn word(&self) -> &'static str {
        ["passed", "failed", "not applicable", "not run"][self.index()]
    }
}

/// The line by which a program begins.
fn begins(program: &Program, line: &str) -> bool {
    line.strip_prefix("program ") == Some(program.name)
}

impl<'a> Part<'a> {
    fn find(programs: &[&Program], program: &Program, log: &'a str, killed: Option<&str>) -> Option<Part<'a>> {
        let lines: Vec<&str> = log.lines().map(str::trim).collect();
        let start = lines.iter().position(|line| begins(program, line))?;
        let rest = &lines[start + 1..];
        let ends = |line: &&str| *line == MACHINE_ENDED.trim() || programs.iter().any(|program| begins(program, line));
        let length = rest.iter().position(ends);
        let lines = &rest[..length.unwrap_or(rest.len())];
        let alive = length.is_some_and(|end| rest[end] != MACHINE_ENDED.trim())
            || killed.is_some_and(|killed| lines.iter().any(|line| line.contains(killed)));
        Some(Part { lines: lines.to_vec(), alive })
    }

    fn verdict(&self, check: &Check) -> Verdict {
        for line in &self.lines {
            if let Some(rest) = line.strip_prefix("not ok ").and_then(|rest| rest.strip_prefix(check.name)) {
                if let Some(reason) = rest.strip_prefix(": ") {
                    return Verdict::Failed(reason.to_owned());
                }
            } else if let Some(rest) = line.strip_prefix("skip ").and_then(|rest| rest.strip_prefix(check.name)) {
                if let Some(reason) = rest.strip_prefix(": ") {
                    return Verdict::NotApplicable(reason.to_owned());
                }
            } else if line.strip_prefix("ok ") == Some(check.name) {
                return Verdict::Passed;
            }
        }
        let tried = self.lines.iter().any(|line| line.strip_prefix("try ") == Some(check.name));
        match (check.kind, tried, self.alive) {
            (Kind::Watched | Kind::Pattern, ..) => Verdict::NotApplicable("nobody watched".into()),
            (_, false, _) => Verdict::NotRun,
            (Kind::Dies | Kind::MayDie, true, true) => Verdict::Passed,
            (Kind::Opens, true, true) => Verdict::NotApplicable("the kernel does not offer it".into()),
            (Kind::Says, true, true) => Verdict::Failed("the program ended here".into()),
            (_, true, false) => Verdict::Failed("nothing more came from the kernel".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tiers::find;

    use super::*;

    fn report(names: &[&str], log: &str) -> Report {
        let programs: Vec<&Program> = names.iter().map(|name| find(name).unwrap()).collect();
        Report::read(&programs, log, None)
    }

    fn verdict(report: &Report, program: &str, check: &str) -> Verdict {
        let found = report.0.iter().find(|finding| finding.program == program && finding.check == check);
        found.unwrap().verdict.clone()
    }

    #[test]
    fn what_the_programs_say_counts() {
        let log = "boot\nprogram numbers\r\ntry unknown\r\nok unknown\r\ntry restart_codes\nnot ok restart_codes: RAX is 1 and not 2\n\
                   try unbounded\nok unbounded\ndone 03\nprogram alive\ntry alive\nok alive\ndone 01\n";
        let report = report(&["numbers", "alive"], log);
        assert_eq!(report.failed_rows(), [34]);
        assert!(!report.is_well());
        assert_eq!(verdict(&report, "numbers", "restart_codes"), Verdict::Failed("RAX is 1 and not 2".into()));
        assert_eq!(report.row(10).0, Verdict::Passed);
        assert!(matches!(report.row(2).0, Verdict::NotApplicable(_)));
        assert!(report.text().contains("failed         row 34: restart codes loop, or reach the user\n"));
    }

    #[test]
    fn a_check_during_which_the_kernel_ends_has_failed_and_the_next_were_not_run() {
        let report =
            report(&["numbers", "alive"], "program numbers\ntry unknown\nok unknown\ntry restart_codes\npanic\n");
        assert_eq!(verdict(&report, "numbers", "unknown"), Verdict::Passed);
        assert_eq!(
            verdict(&report, "numbers", "restart_codes"),
            Verdict::Failed("nothing more came from the kernel".into())
        );
        assert_eq!(verdict(&report, "numbers", "unbounded"), Verdict::NotRun);
        assert_eq!(verdict(&report, "alive", "alive"), Verdict::NotRun);
        assert_eq!(report.row(43).0, Verdict::NotRun);
    }

    #[test]
    fn a_program_that_is_to_die_has_passed_if_the_kernel_lives() {
        let log = "program halt\ntry dies\nprogram port_in\ntry dies\nnot ok dies: user mode went on\nprogram int3\ntry dies\nok dies\n\
                   program read_msr\ntry dies\n";
        let report = report(&["halt", "port_in", "int3", "read_msr"], log);
        assert_eq!(verdict(&report, "halt", "dies"), Verdict::Passed);
        assert_eq!(verdict(&report, "int3", "dies"), Verdict::Passed);
        assert_eq!(report.failed_rows(), [20]);
        assert_eq!(verdict(&report, "read_msr", "dies"), Verdict::Failed("nothing more came from the kernel".into()));
    }

    #[test]
    fn what_the_kernel_does_not_offer_is_not_applicable() {
        let log = "program fpu\ntry open\nprogram alive\ntry alive\nok alive\n";
        let report = report(&["fpu", "alive", "last_bytes"], log);
        assert!(matches!(report.row(15).0, Verdict::NotApplicable(_)));
        assert!(matches!(report.row(1).0, Verdict::NotApplicable(_)));
        assert!(report.is_well());
    }

    #[test]
    fn the_kernels_own_words_say_that_it_lives() {
        let programs = [find("halt").unwrap()];
        let log = "program halt\ntry dies\nkilled: exception 13\n";
        assert!(Report::read(&programs, log, Some("killed:")).is_well());
        assert!(!Report::read(&programs, log, Some("ended:")).is_well());
    }
}
