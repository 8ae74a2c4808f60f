//! `./x test --ablate`: each guard is taken out, and its test must fail then. A test that still passes proves nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::guest::{self, Session};
use super::library;
use super::report::Report;
use crate::qemu::Machine;
use crate::{kernel, repository};

/// One row of the table in docs/guards.md.
#[derive(Debug, PartialEq)]
struct Guard {
    name: String,
    test: String,
    cpu: String,
    smp: u32,
}

/// Where a test is.
enum Kind {
    /// A program of tests/guest.
    Guest,
    /// A loom model.
    Loom,
    /// Another test of the library.
    Library,
}

/// Ablates the guard `only`, or all.
pub fn run(only: Option<&str>, report: &mut Report) -> Result<()> {
    let path = repository("docs/guards.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut guards = parse(&text)?;
    if let Some(only) = only {
        guards.retain(|guard| guard.name == only);
        if guards.is_empty() {
            bail!("docs/guards.md has no guard `{only}`");
        }
    }
    let intact = kernel::build_checked()?;
    let mut rows = Vec::new();
    for guard in &guards {
        let outcome = ablate(guard, &intact).unwrap_or_else(|error| Err(format!("{error:#}")));
        let verdict = outcome
            .clone()
            .unwrap_or_else(|reason| format!("NOT CAUGHT: {reason}"));
        rows.push((guard, verdict));
        report.outcome(&format!("ablate/{}", guard.name), outcome.map(|_| ()));
    }
    println!("\n{:24} {:28} {:16} without the guard", "guard", "test", "CPU");
    for (guard, verdict) in rows {
        let verdict = verdict.lines().next().unwrap_or_default();
        println!("{:24} {:28} {:16} {verdict}", guard.name, guard.test, guard.cpu);
    }
    Ok(())
}

/// How the guard's test fails without it, or why it does not.
fn ablate(guard: &Guard, intact: &Path) -> Result<Result<String, String>> {
    match kind(&guard.test) {
        Kind::Guest => {
            if let Some(reason) = guest_failure(guard, intact)? {
                return Ok(Err(format!("{} fails with the guard, too: {reason}", guard.test)));
            }
            let kernel = kernel::Build {
                ablate: Some(guard.name.clone()),
                checked: true,
                cfg: Vec::new(),
            }
            .run()?;
            Ok(guest_failure(guard, &kernel)?
                .ok_or_else(|| format!("{} passes without the guard", guard.test)))
        }
        kind => {
            let mut command = Command::new("cargo");
            command
                .args(["test", "-p", "portcullis", "--target-dir"])
                .current_dir(repository(""));
            let cfg = [format!("portcullis_ablate=\"{}\"", guard.name)];
            match kind {
                Kind::Loom => {
                    command
                        .arg(repository("target/ablate-loom"))
                        .args(["--release", "--test", "loom"]);
                    command
                        .args(kernel::package_cfg("release", &["portcullis"], &cfg))
                        .env("RUSTFLAGS", "--cfg loom");
                }
                _ => {
                    command.arg(repository("target/ablate")).arg("--no-fail-fast");
                    command.args(kernel::package_cfg("dev", &["portcullis"], &cfg));
                }
            }
            command.env("RUSTC_BOOTSTRAP", "1").arg(&guard.test);
            if library::fails(&mut command, &guard.test)? {
                Ok(Ok("the test fails".to_owned()))
            } else {
                Ok(Err(format!("{} passes without the guard", guard.test)))
            }
        }
    }
}

/// How the guard's guest test fails in this kernel, if it does.
fn guest_failure(guard: &Guard, kernel: &Path) -> Result<Option<String>> {
    let program = guest::compile_one(&guard.test)?;
    let machine = Machine {
        cpu: guard.cpu.clone(),
        smp: guard.smp,
        ..Machine::default()
    };
    let mut session = Session::default();
    let mut result = None;
    let outcome = guest::boot(kernel, &machine, &[&program], 5, |line| {
        result = session.line(line).or(result.take());
    })?;
    let interrupted = session.interrupted(&outcome);
    Ok(interrupted
        .or(result)
        .map_or_else(|| Some("it did not run".to_owned()), |result| result.failure()))
}

fn kind(test: &str) -> Kind {
    let has =
        |file: &str, what: &str| fs::read_to_string(repository(file)).is_ok_and(|text| text.contains(what));
    if repository("tests/guest").join(test).with_extension("c").exists() {
        Kind::Guest
    } else if has("portcullis/tests/loom.rs", &format!("fn {test}(")) {
        Kind::Loom
    } else {
        Kind::Library
    }
}

/// The rows of the table whose first column is headed `guard`: guard, where, what it guards, test, CPU model.
fn parse(text: &str) -> Result<Vec<Guard>> {
    let mut guards = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        let Some(row) = line
            .trim()
            .strip_prefix('|')
            .and_then(|row| row.strip_suffix('|'))
        else {
            in_table = false;
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if cells[0].to_lowercase().starts_with("guard") {
            in_table = true;
        } else if in_table && !cells[0].starts_with('-') && !cells[0].starts_with(':') {
            let [name, _, _, test, cpu] = cells[..] else {
                bail!(
                    "docs/guards.md: a row has {} columns and not 5: {line}",
                    cells.len()
                );
            };
            let words: Vec<&str> = cpu
                .split([' ', ',', '`'])
                .filter(|word| !word.is_empty())
                .collect();
            let smp = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
            let model = words
                .first()
                .filter(|word| !["-", "–", "any", "host"].contains(word) && word.parse::<u32>().is_err());
            guards.push(Guard {
                name: name.to_owned(),
                test: test.to_owned(),
                cpu: model.map_or("max", |model| *model).to_owned(),
                smp,
            });
        }
    }
    if guards.is_empty() {
        bail!("docs/guards.md has no table of guards");
    }
    Ok(guards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_guards_is_read() {
        let text = "# Guards\n\n| a | b |\n|---|---|\n| x | y |\n\n\
            | guard | where | what it guards | test | CPU model |\n| --- | --- | --- | --- | --- |\n\
            | `sysret-canonical` | `way_out.rs` | bug 1 | `sysret_noncanonical` | `Skylake-Client`, 2 CPUs |\n\
            | `recheck` | `exit.rs` | bug 29 | `no_work_is_lost` | any |\n";
        let guard = |name: &str, test: &str, cpu: &str, smp| Guard {
            name: name.into(),
            test: test.into(),
            cpu: cpu.into(),
            smp,
        };
        let expected = [
            guard("sysret-canonical", "sysret_noncanonical", "Skylake-Client", 2),
            guard("recheck", "no_work_is_lost", "max", 1),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse("no table").is_err());
    }
}
