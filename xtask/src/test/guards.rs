//! docs/guards.md, as far as it is data: the tables of bugs and of guards. Its tests keep the page true.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

/// The page.
const PAGE: &str = "docs/guards.md";

/// One row of the tables headed `guard`.
#[derive(Debug, PartialEq)]
pub struct Guard {
    /// The name in `portcullis_ablate`.
    pub name: String,
    /// The source file that holds it.
    file: String,
    /// The rows of the catalogue of bugs that it answers.
    bugs: Vec<usize>,
    /// The tests of which each fails without it.
    pub tests: Vec<String>,
    /// The CPU model that guest tests need.
    pub cpu: String,
    /// And how many CPUs.
    pub smp: u32,
    /// And whether the kernel has page-table isolation.
    pub isolation: bool,
}

/// Where a test is.
#[derive(Debug, PartialEq)]
pub enum Kind {
    /// A program of tests/guest.
    Guest,
    /// A loom model.
    Loom,
    /// Another test of the library.
    Library,
}

/// The guards of the page.
pub fn read() -> Result<Vec<Guard>> {
    parse(&page()?)
}

/// Where the test is, if there is one of this name.
pub fn find_test(test: &str) -> Result<Kind> {
    let function = format!("#[test] fn {test}(");
    let holds = |file: &Path| {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        fs::read_to_string(file).is_ok_and(|text| one_line(text).contains(&function))
    };
    if repository("tests/guest").join(test).with_extension("c").exists() {
        return Ok(Kind::Guest);
    }
    if holds(&repository("portcullis/tests/loom.rs")) {
        return Ok(Kind::Loom);
    }
    let mut files = sources("portcullis/src")?;
    files.extend(sources("portcullis/tests")?);
    ensure!(files.iter().any(|file| holds(file)), "there is no test {test}");
    Ok(Kind::Library)
}

fn page() -> Result<String> {
    let path = repository(PAGE);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// All Rust files below a folder of the repository.
fn sources(folder: &str) -> Result<Vec<PathBuf>> {
    let mut folders = vec![repository(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// The rows of all tables whose first column has this heading: their cells, without backquotes at the ends.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        let row = line
            .trim()
            .strip_prefix('|')
            .and_then(|row| row.strip_suffix('|'));
        let Some(row) = row else {
            in_table = false;
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[0] == heading {
            in_table = true;
        } else if in_table && !cells[0].starts_with("--") {
            rows.push(cells);
        }
    }
    rows
}

/// The names in a cell, which commas separate. A dash stands for none.
fn names(cell: &str) -> Vec<String> {
    cell.split(',')
        .map(|name| name.trim().trim_matches('`'))
        .filter(|name| !["", "–"].contains(name))
        .map(str::to_owned)
        .collect()
}

/// The numbers in the parentheses of a cell.
fn numbers(cell: &str) -> Vec<usize> {
    cell.split(['(', ')'])
        .skip(1)
        .step_by(2)
        .flat_map(|list| list.split(','))
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

/// The tables of guards: guard, where, what it guards against, tests, CPU model.
fn parse(text: &str) -> Result<Vec<Guard>> {
    let mut guards = Vec::new();
    for row in rows(text, "guard") {
        let [name, file, against, tests, cpu] = row[..] else {
            bail!("{PAGE}: a row has {} columns and not 5: {row:?}", row.len());
        };
        let mut machine = cpu.split(", ");
        let model = machine.next().filter(|&model| model != "–");
        let smp = machine
            .next()
            .and_then(|cpus| cpus.split(' ').next()?.parse().ok());
        guards.push(Guard {
            name: name.to_owned(),
            file: file.trim_matches('`').to_owned(),
            bugs: numbers(against),
            tests: names(tests),
            cpu: model.unwrap_or("max").to_owned(),
            smp: smp.unwrap_or(1),
            isolation: cpu.ends_with(", isolated"),
        });
    }
    ensure!(!guards.is_empty(), "{PAGE} has no table of guards");
    Ok(guards)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// How many bugs the catalogue has.
    const BUGS: usize = 44;

    #[test]
    fn the_tables_are_read() {
        let text = "# Guards\n\n| a | b |\n|---|---|\n| x | y |\n\n\
            | guard | where | what it guards | test | CPU model |\n| --- | --- | --- | --- | --- |\n\
            | here | `way_out.rs` | a bug (1, 32) | one, `two` | Skylake-Client, 2 CPUs |\n\
            | there | `exit.rs` | another (not a number) | no_work_is_lost | – |\n\
            | alone | `page_table.rs` | a third (12) | three | EPYC, 1 CPU, isolated |\n";
        let guard = |name: &str, file: &str, bugs: &[usize], tests: &[&str], cpu: &str, smp| Guard {
            name: name.into(),
            file: file.into(),
            bugs: bugs.into(),
            tests: tests.iter().map(|&test| test.into()).collect(),
            cpu: cpu.into(),
            smp,
            isolation: name == "alone",
        };
        let expected = [
            guard(
                "here",
                "way_out.rs",
                &[1, 32],
                &["one", "two"],
                "Skylake-Client",
                2,
            ),
            guard("there", "exit.rs", &[], &["no_work_is_lost"], "max", 1),
            guard("alone", "page_table.rs", &[12], &["three"], "EPYC", 1),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse("no table").is_err());
    }

    /// What `portcullis_ablate` can be in a source text: the switch's values, and the names of the assembly's guards.
    fn ablations(text: &str) -> Vec<String> {
        let quoted = |rest: &str| {
            rest.trim_start()
                .strip_prefix('"')?
                .split('"')
                .next()
                .map(str::to_owned)
        };
        let switches = text.split("portcullis_ablate = ").skip(1).filter_map(quoted);
        // guard!(macro, "name", …)
        let guards = text.split("guard!(").skip(1);
        let guards = guards.filter_map(|rest| quoted(rest.split_once(',')?.1));
        switches.chain(guards).collect()
    }

    #[test]
    fn every_guard_of_the_sources_has_a_row_and_every_row_a_guard() {
        let guards = read().unwrap();
        let mut found = BTreeSet::new();
        for folder in ["portcullis/src", "kernel/src"] {
            for file in sources(folder).unwrap() {
                let path = file.display().to_string();
                for name in ablations(&fs::read_to_string(&file).unwrap()) {
                    let has_row = guards
                        .iter()
                        .any(|guard| guard.name == name && path.ends_with(&guard.file));
                    if has_row {
                        found.insert(name);
                    } else {
                        // A guard may have a second place, but not only that.
                        let elsewhere = guards.iter().any(|guard| guard.name == name);
                        assert!(elsewhere, "{PAGE} has no row for the guard {name} of {path}");
                    }
                }
            }
        }
        for guard in &guards {
            assert!(
                found.contains(&guard.name),
                "{} has no guard {}",
                guard.file,
                guard.name
            );
        }
    }

    #[test]
    fn every_test_of_a_guard_exists() {
        for guard in read().unwrap() {
            assert!(!guard.tests.is_empty(), "no test holds {}", guard.name);
            for test in &guard.tests {
                find_test(test).unwrap();
            }
        }
    }

    #[test]
    fn every_bug_has_a_row_with_tests_that_exist_and_the_guards_that_answer_it() {
        let page = page().unwrap();
        let guards = parse(&page).unwrap();
        let bugs = rows(&page, "row");
        assert_eq!(bugs.len(), BUGS);
        for (index, row) in bugs.iter().enumerate() {
            let [number, bug, tests, held_by, shown_by] = row[..] else {
                panic!("a row has not 5 columns: {row:?}");
            };
            assert_eq!(number.parse(), Ok(index + 1));
            assert!(!bug.is_empty() && !shown_by.is_empty(), "{row:?}");
            let tests = names(tests);
            assert!(!tests.is_empty(), "no test holds row {number}");
            for test in tests {
                assert!(
                    find_test(&test).is_ok() || super::super::is_suite(&test),
                    "there is no test {test}"
                );
            }
            let of_the_row: BTreeSet<String> = names(held_by).into_iter().collect();
            let that_name_it: BTreeSet<String> = guards
                .iter()
                .filter(|guard| guard.bugs.contains(&(index + 1)))
                .map(|guard| guard.name.clone())
                .collect();
            assert_eq!(
                of_the_row, that_name_it,
                "the guards of row {number} here and in the tables of guards"
            );
        }
    }
}
