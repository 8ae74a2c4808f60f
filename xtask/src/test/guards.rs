//! docs/guards.md, as far as it is data: the tables of bugs and of guards. Its tests keep the page true.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::{repository, sources};

/// The page.
const PAGE: &str = "docs/guards.md";

/// The same bugs, told.
#[cfg(test)]
const STORIES: &str = "docs/bugs.md";

/// Where the patches are that take the guards out.
const PATCHES: &str = "docs/guards";

/// One row of the tables headed `guard`.
#[derive(Debug, PartialEq)]
pub struct Guard {
    /// Its name, and its patch's.
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

impl Guard {
    /// The patch that takes it out.
    pub fn patch(&self) -> PathBuf {
        repository(PATCHES).join(format!("{}.patch", self.name))
    }
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
    for folder in ["portcullis/tests", "crates"] {
        files.extend(sources(folder)?);
    }
    ensure!(files.iter().any(|file| holds(file)), "there is no test {test}");
    Ok(Kind::Library)
}

fn page() -> Result<String> {
    let path = repository(PAGE);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The rows of all tables whose first column has this heading: their cells, without backquotes at the ends.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        let row = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|'));
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
        let smp = machine.next().and_then(|cpus| cpus.split(' ').next()?.parse().ok());
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

    use super::super::ablate::tree::apply;
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
            guard("here", "way_out.rs", &[1, 32], &["one", "two"], "Skylake-Client", 2),
            guard("there", "exit.rs", &[], &["no_work_is_lost"], "max", 1),
            guard("alone", "page_table.rs", &[12], &["three"], "EPYC", 1),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse("no table").is_err());
    }

    /// The files that a patch changes.
    fn changed(patch: &Path) -> Vec<String> {
        let text = fs::read_to_string(patch).unwrap_or_else(|error| panic!("{}: {error}", patch.display()));
        text.lines().filter_map(|line| line.strip_prefix("+++ b/").map(str::to_owned)).collect()
    }

    #[test]
    fn every_guard_has_a_patch_that_changes_its_file_and_applies() {
        for guard in read().unwrap() {
            let patch = guard.patch();
            let files = changed(&patch);
            let in_library = format!("portcullis/src/{}", guard.file);
            assert!(
                files.contains(&guard.file) || files.contains(&in_library),
                "{} does not change {}",
                patch.display(),
                guard.file
            );
            for file in files {
                let is_product = ["portcullis/src/", "kernel/src/"].iter().any(|folder| file.starts_with(folder));
                assert!(is_product, "{} changes {file}", patch.display());
            }
            if let Err(error) = apply(&patch, &repository(""), &["--check"]) {
                panic!("the patch of the guard {} does not apply: {error:#}", guard.name);
            }
        }
    }

    #[test]
    fn every_patch_belongs_to_a_guard() {
        let known: BTreeSet<PathBuf> = read().unwrap().iter().map(Guard::patch).collect();
        for entry in fs::read_dir(repository(PATCHES)).unwrap() {
            let patch = entry.unwrap().path();
            assert!(known.contains(&patch), "{PAGE} has no row for {}", patch.display());
        }
    }

    #[test]
    fn product_code_has_no_test_switch() {
        for folder in ["portcullis/src", "crates", "kernel/src", "linux"] {
            for file in sources(folder).unwrap() {
                let text = fs::read_to_string(&file).unwrap();
                for switch in ["portcullis_ablate", "portcullis_floor"] {
                    assert!(!text.contains(switch), "{switch} in {}", file.display());
                }
            }
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
                    find_test(&test).is_ok() || super::super::ensure_suite(&test).is_ok(),
                    "there is no test {test}"
                );
            }
            let of_the_row: BTreeSet<String> = names(held_by).into_iter().collect();
            let that_name_it: BTreeSet<String> = guards
                .iter()
                .filter(|guard| guard.bugs.contains(&(index + 1)))
                .map(|guard| guard.name.clone())
                .collect();
            assert_eq!(of_the_row, that_name_it, "the guards of row {number} here and in the tables of guards");
        }
    }

    /// The sections of docs/bugs.md: number, and text.
    fn stories() -> Vec<(usize, String)> {
        let text = fs::read_to_string(repository(STORIES)).unwrap();
        let sections = text.split("\n## ").skip(1);
        sections.map(|section| (section.split('.').next().unwrap().parse().unwrap(), section.to_owned())).collect()
    }

    /// What stands in backquotes.
    fn quoted(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn every_bug_has_its_story_with_the_tests_and_guards_of_its_row() {
        let page = page().unwrap();
        let bugs = rows(&page, "row");
        let stories = stories();
        assert_eq!(stories.len(), BUGS);
        for ((index, row), (number, story)) in bugs.iter().enumerate().zip(&stories) {
            assert_eq!(*number, index + 1);
            for part in ["\n\n*", "\n\n**Here.** "] {
                assert_eq!(story.matches(part).count() - usize::from(part == "\n\n*"), 1, "{number}: {part:?}");
            }
            let line = |label: &str| story.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default();
            assert_eq!(quoted(line("- Tests: ")), names(row[2]), "the tests of {number}");
            assert_eq!(quoted(line("- Guards: ")), names(row[3]), "the guards of {number}");
        }
    }

    /// An item, a test, a guard, a suite, a package, a file: whatever a story names is somewhere.
    #[test]
    fn every_name_in_a_story_is_in_the_code() {
        let mut files: Vec<PathBuf> = Vec::new();
        for folder in ["portcullis", "crates", "kernel/src", "xtask/src/test"] {
            files.extend(sources(folder).unwrap());
        }
        let mut known: BTreeSet<String> = read().unwrap().into_iter().map(|guard| guard.name).collect();
        let programs = fs::read_dir(repository("tests/guest")).unwrap().map(|entry| entry.unwrap().path());
        known.extend(programs.chain(files.clone()).map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()));
        for package in fs::read_dir(repository("crates")).unwrap() {
            let manifest = fs::read_to_string(package.unwrap().path().join("Cargo.toml")).unwrap();
            known.insert(manifest.split('"').nth(1).unwrap().to_owned());
        }
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            known.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
        for (number, story) in stories() {
            for name in quoted(&story) {
                let found = match name.strip_suffix(".rs") {
                    Some(_) => files.iter().any(|file| file.ends_with(name)),
                    None => name.split("::").all(|part| known.contains(part)),
                };
                assert!(found, "{STORIES}, {number}: there is no `{name}`");
            }
        }
    }
}
