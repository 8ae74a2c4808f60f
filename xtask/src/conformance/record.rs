//! The recorded results of stock Linux, `tests/conformance/stock.json`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::qemu::Machine;
use crate::repository;
use crate::selftests::{Outcome, Test};

const FILE: &str = "tests/conformance/stock.json";

/// By machine and test: summary and result lines.
#[derive(Default)]
pub struct Record(BTreeMap<(String, String), (String, Vec<String>)>);

impl Record {
    /// What is recorded; nothing if there is no record.
    pub fn read() -> Result<Record> {
        let Ok(text) = fs::read_to_string(repository(FILE)) else {
            return Ok(Record::default());
        };
        let rows: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("{FILE} is no table"))?;
        let row = |row: &Value| {
            let string = |key: &str| Some(row.get(key)?.as_str()?.to_owned());
            let lines = row.get("lines")?.as_array()?;
            let lines = lines.iter().filter_map(|line| Some(line.as_str()?.to_owned()));
            Some((
                (string("machine")?, string("test")?),
                (string("outcome")?, lines.collect()),
            ))
        };
        Ok(Record(rows.iter().filter_map(row).collect()))
    }

    /// The outcomes on one machine, by the tests' ids.
    pub fn outcomes(&self, machine: &Machine) -> BTreeMap<String, Outcome> {
        let name = name(machine);
        let rows = self.0.iter().filter(|((machine, _), _)| *machine == name);
        rows.filter_map(|((_, id), (summary, lines))| {
            Some((id.clone(), Outcome::from_record(summary, lines.clone())?))
        })
        .collect()
    }

    /// Takes these tests' outcomes on one machine in.
    pub fn replace(&mut self, machine: &Machine, tests: &[&Test], outcomes: &BTreeMap<String, Outcome>) {
        for test in tests {
            if let Some(outcome) = outcomes.get(&test.id()) {
                let row = (outcome.summary(), outcome.lines.clone());
                self.0.insert((name(machine), test.id()), row);
            }
        }
    }

    /// Writes the file, a row per line.
    pub fn write(&self) -> Result<()> {
        let rows: Vec<String> = self
            .0
            .iter()
            .map(|((machine, test), (outcome, lines))| {
                json!({ "machine": machine, "test": test, "outcome": outcome, "lines": lines }).to_string()
            })
            .collect();
        let path = repository(FILE);
        fs::write(&path, format!("[\n{}\n]\n", rows.join(",\n")))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn name(machine: &Machine) -> String {
    format!("-cpu {} -smp {}", machine.cpu, machine.smp)
}
