//! The recorded results of stock Linux, `tests/conformance/stock.txt`.
//!
//! ```text
//! # Linux 6.1.192
//! == x86/sysret_rip_64
//! exit 0, 52/52 | max ×1, max ×2, EPYC ×1, EPYC ×2
//!     50× [OK] a result line that came fifty times
//!     [OK] one that came once
//! ```
//!
//! Under a test's name stands each outcome that it had, with the machines that gave it. The order of result lines does not
//! count, so that equal ones stand together.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use super::name;
use crate::qemu::Machine;
use crate::repository;
use crate::selftests::{Outcome, Test};

const FILE: &str = "tests/conformance/stock.txt";
const INDENT: &str = "    ";

/// An outcome: its summary, and its result lines.
type Recorded = (String, Vec<String>);

/// The outcomes by test and machine.
#[derive(Default)]
pub struct Record {
    /// Which Linux gave them.
    pub version: String,
    outcomes: BTreeMap<(String, String), Recorded>,
}

impl Record {
    /// What is recorded; nothing if there is no record.
    pub fn read() -> Result<Record> {
        match fs::read_to_string(repository(FILE)) {
            Ok(text) => Record::parse(&text).with_context(|| format!("{FILE} cannot be understood")),
            Err(_) => Ok(Record::default()),
        }
    }

    fn parse(text: &str) -> Result<Record> {
        let mut record = Record::default();
        let mut test = "";
        let mut machines: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(version) = line.strip_prefix("# ") {
                record.version = version.to_owned();
            } else if let Some(id) = line.strip_prefix("== ") {
                test = id;
            } else if let Some(result) = line.strip_prefix(INDENT) {
                let (count, result) = match result.split_once("× ") {
                    Some((count, result)) => (count.parse().context(line.to_owned())?, result),
                    None => (1, result),
                };
                for machine in &machines {
                    let key = (test.to_owned(), (*machine).to_owned());
                    let (_, lines) = record.outcomes.get_mut(&key).with_context(|| line.to_owned())?;
                    lines.extend(std::iter::repeat_n(result.to_owned(), count));
                }
            } else {
                let (summary, on) = line.split_once(" | ").with_context(|| line.to_owned())?;
                machines = on.split(", ").collect();
                for machine in &machines {
                    let key = (test.to_owned(), (*machine).to_owned());
                    record.outcomes.insert(key, (summary.to_owned(), Vec::new()));
                }
            }
        }
        Ok(record)
    }

    /// The outcomes on one machine, by the tests' ids. What was not run with so many CPUs is taken from a run with two: stock
    /// Linux polls when idle, and more CPUs than the host has take too long for the tests' own limits.
    pub fn outcomes(&self, machine: &Machine) -> BTreeMap<String, Outcome> {
        const ENOUGH: u32 = 2;
        let exact = name(machine);
        let name = match self.outcomes.keys().any(|(_, on)| *on == exact) {
            true => exact,
            false => name(&Machine { smp: machine.smp.min(ENOUGH), ..machine.clone() }),
        };
        let rows = self.outcomes.iter().filter(|((_, on), _)| *on == name);
        rows.filter_map(|((id, _), (summary, lines))| Some((id.clone(), Outcome::from_record(summary, lines.clone())?)))
            .collect()
    }

    /// Takes these tests' outcomes on one machine in.
    pub fn replace(&mut self, machine: &Machine, tests: &[&Test], outcomes: &BTreeMap<String, Outcome>) {
        for test in tests {
            if let Some(outcome) = outcomes.get(&test.id()) {
                let mut lines = outcome.lines.clone();
                lines.sort();
                let key = (test.id(), name(machine));
                self.outcomes.insert(key, (outcome.summary(), lines));
            }
        }
    }

    /// Writes the file.
    pub fn write(&self) -> Result<()> {
        let path = repository(FILE);
        fs::write(&path, self.text()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn text(&self) -> String {
        let mut tests: BTreeMap<&str, Vec<(&Recorded, Vec<&str>)>> = BTreeMap::new();
        for ((test, machine), outcome) in &self.outcomes {
            let outcomes = tests.entry(test).or_default();
            match outcomes.iter_mut().find(|(other, _)| *other == outcome) {
                Some((_, machines)) => machines.push(machine),
                None => outcomes.push((outcome, vec![machine])),
            }
        }
        let mut text = format!("# {}\n", self.version);
        for (test, outcomes) in tests {
            let _ = writeln!(text, "== {test}");
            for ((summary, lines), machines) in outcomes {
                let _ = writeln!(text, "{summary} | {}", machines.join(", "));
                for alike in lines.chunk_by(|a, b| a == b) {
                    let _ = match alike.len() {
                        1 => writeln!(text, "{INDENT}{}", alike[0]),
                        count => writeln!(text, "{INDENT}{count}× {}", alike[0]),
                    };
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "# Linux 6.1\n\
                    == ptrace/a_64\n\
                    exit 0, 3/3 | EPYC ×1, max ×2\n    2× [OK] a\n    [OK] b\n\
                    panic | max,smap=off ×2\n\
                    == x86/b_32\n\
                    exit 1 | EPYC ×1\n";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.text(), text);
        let outcomes = record.outcomes(&Machine { cpu: "max".to_owned(), smp: 2, ..Machine::default() });
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes["ptrace/a_64"].lines, ["[OK] a", "[OK] a", "[OK] b"]);
        let with_four = record.outcomes(&Machine { cpu: "max".to_owned(), smp: 4, ..Machine::default() });
        assert_eq!(with_four.len(), 1);
    }
}
