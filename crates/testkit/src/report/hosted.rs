//! What the programs of tiers (b) and (c) print, and the runner around it.

use super::{Finding, MACHINE_ENDED, Verdict};
use crate::tiers::Program;

/// What stands for a program as a whole: how it ended.
const END: &str = "the end";

/// The findings about one program.
pub fn read(program: &'static Program, log: &str) -> Vec<Finding> {
    let finding =
        |check: &str, rows, verdict| Finding { program: program.name, check: check.to_owned(), rows, verdict };
    let Some(part) = Part::find(program, log) else {
        let verdict = if program.is_32_bit() {
            Verdict::NotApplicable("the kernel did not run the program, which has 32 bits".into())
        } else {
            Verdict::NotRun
        };
        return vec![finding(END, all_rows(program), verdict)];
    };
    if part.lines.iter().all(|line| check(line).is_none()) && program.is_32_bit() && part.ending == Some("exit 127") {
        let verdict = Verdict::NotApplicable("the kernel does not run the program, which has 32 bits".into());
        return vec![finding(END, all_rows(program), verdict)];
    }
    let mut findings: Vec<Finding> = (part.lines.iter().filter_map(|line| check(line)))
        .map(|(verdict, text)| {
            let (name, reason) = text.split_once(": ").unwrap_or((text, ""));
            match verdict {
                Said::Ok => finding(text, rows(program, text), Verdict::Passed),
                Said::NotOk => finding(name, rows(program, text), Verdict::Failed(reason.to_owned())),
                Said::Skip => finding(name, rows(program, text), Verdict::NotApplicable(reason.to_owned())),
            }
        })
        .collect();
    if let Some(complaint) = part.complaint(&findings) {
        findings.push(finding(END, all_rows(program), Verdict::Failed(complaint)));
    }
    findings
}

/// What a program says of a check.
#[derive(Clone, Copy)]
enum Said {
    Ok,
    NotOk,
    Skip,
}

/// A line about a check: its name, and behind a colon the reason.
fn check(line: &str) -> Option<(Said, &str)> {
    let words = [("ok ", Said::Ok), ("not ok ", Said::NotOk), ("skip ", Said::Skip)];
    words.into_iter().find_map(|(word, said)| Some((said, line.strip_prefix(word)?)))
}

/// The rows of all of a program's checks.
fn all_rows(program: &Program) -> Vec<u32> {
    union(program.checks.iter().flat_map(|check| check.rows))
}

/// The rows of the check that a line names. There may be colons in the name, as there is one behind it.
fn rows(program: &Program, text: &str) -> Vec<u32> {
    let ends = text.match_indices(": ").map(|(at, _)| at).chain([text.len()]);
    let names: Vec<&str> = ends.map(|end| &text[..end]).collect();
    let meant = program.checks.iter().filter(|check| names.iter().any(|name| check.is_named(name)));
    union(meant.flat_map(|check| check.rows))
}

fn union<'a>(rows: impl Iterator<Item = &'a u32>) -> Vec<u32> {
    let mut rows: Vec<u32> = rows.copied().collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The lines of one program.
struct Part<'a> {
    lines: Vec<&'a str>,
    /// How the runner says that it ended.
    ending: Option<&'a str>,
    /// The machine ended first.
    died: bool,
}

impl<'a> Part<'a> {
    fn find(program: &Program, log: &'a str) -> Option<Part<'a>> {
        let mut lines = log.lines().map(str::trim).skip_while(|line| line.strip_prefix("=== ") != Some(program.name));
        lines.next()?;
        let mut part = Part { lines: Vec::new(), ending: None, died: true };
        for line in lines {
            if line == MACHINE_ENDED.trim() {
                break;
            }
            if let Some(rest) = line.strip_prefix("=== ") {
                let ending = rest.strip_prefix(program.name).and_then(|rest| rest.strip_prefix(' '));
                // The runner says how long it took, too.
                part.ending = ending.map(|text| {
                    text.rsplit_once(' ').map_or(text, |(text, unit)| {
                        { if unit == "ms" { text.rsplit_once(' ').map_or(text, |(text, _)| text) } else { text } }
                            .trim_end()
                    })
                });
                part.died = false;
                break;
            }
            part.lines.push(line);
        }
        Some(part)
    }

    /// What is wrong with the program as a whole.
    fn complaint(&self, findings: &[Finding]) -> Option<String> {
        let last = findings.last().map_or(String::new(), |finding| format!("; the last check was {}", finding.check));
        let failed = findings.iter().any(|finding| matches!(finding.verdict, Verdict::Failed(_)));
        let announced = self.lines.iter().find_map(|line| line.strip_prefix("done ")?.parse::<usize>().ok());
        match (announced, self.ending) {
            (None, _) if self.died => Some(format!("nothing more came from the kernel{last}")),
            (None, ending) => {
                Some(format!("it ended before it was done ({}){last}", ending.unwrap_or("no word of how")))
            }
            (Some(count), _) if count != findings.len() => {
                Some(format!("{count} checks announced, {} seen", findings.len()))
            }
            (Some(_), Some(ending)) if ending != "exit 0" && !failed => Some(format!("no check failed, but: {ending}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::report::Report;
    use crate::tiers::Tier;

    use super::*;

    fn report(name: &str, log: &str) -> Report {
        let programs = Tier::C.programs();
        Report::read(&[programs.into_iter().find(|program| program.name == name).unwrap()], log, None)
    }

    #[test]
    fn a_check_is_of_the_rows_whose_pattern_it_matches() {
        let log = "=== int80\nok getpid\nok number 0xffffffff\nnot ok read, SA_RESTART: RAX is 4\r\nskip fork: none\ndone 4\n=== int80 exit 1 12 ms\n";
        let report = report("int80", log);
        assert_eq!(report.failed_rows(), [34]);
        assert_eq!((report.row(10).0, report.row(43).0), (Verdict::Passed, Verdict::Passed));
        assert!(matches!(report.row(9).0, Verdict::NotApplicable(_)));
        assert!(!report.is_well());
    }

    #[test]
    fn a_name_may_have_a_colon() {
        let log = "=== fast_doors_32\nnot ok INT 0x80: single steps: 3 of 4\ndone 1\n=== fast_doors_32 exit 1 1 ms\n";
        assert_eq!(report("fast_doors_32", log).failed_rows(), [25, 41]);
    }

    #[test]
    fn a_program_that_does_not_come_to_its_end_fails_in_all_of_its_rows() {
        for (end, reason) in [
            ("=== altstack signal 11 20 ms\n", "it ended before it was done (signal 11); the last check was a handler"),
            ("=== altstack timeout 120000 ms\n", "it ended before it was done (timeout); the last check was a handler"),
            ("\ntestkit: the machine ended\n", "nothing more came from the kernel; the last check was a handler"),
            ("", "nothing more came from the kernel; the last check was a handler"),
            ("done 2\n=== altstack exit 0 1 ms\n", "2 checks announced, 1 seen"),
            ("done 1\n=== altstack exit 3 1 ms\n", "no check failed, but: exit 3"),
        ] {
            let report = report("altstack", &format!("=== altstack\nok a handler\n{end}"));
            assert_eq!(report.row(27).0, Verdict::Failed(reason.into()), "{end}");
        }
        let report = report("altstack", "=== altstack\nok a handler\ndone 1\n=== altstack exit 0 1 ms\n");
        assert!(report.is_well());
    }

    #[test]
    fn what_did_not_begin_was_not_run_unless_it_has_32_bits() {
        assert_eq!(report("altstack", "=== ldt\n").row(27).0, Verdict::NotRun);
        for log in ["", "=== tls32\n/tests/tls32: Exec format error\n=== tls32 exit 127 3 ms\n"] {
            assert!(matches!(report("tls32", log).row(4).0, Verdict::NotApplicable(_)), "{log}");
        }
    }
}
