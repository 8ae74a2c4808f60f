//! Suite `library`: what `cargo test` runs on the host, each of its tests counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Wanted;
use super::report::Report;
use crate::repository;
use crate::toolchain::Toolchain;

/// Runs the suite, or what is wanted of it: whole parts, or the tests of a part whose paths contain a name.
pub fn run(wanted: &[Wanted<'_>], report: &mut Report) -> Result<()> {
    let names = |part: &str| {
        let is_whole = wanted.iter().any(|wanted| wanted.name.is_none() && [part, "library"].contains(&wanted.part));
        let of_part = wanted.iter().filter(|wanted| wanted.part == part && !is_whole);
        let names: Vec<&str> = of_part.filter_map(|wanted| wanted.name).collect();
        (wanted.is_empty() || is_whole || !names.is_empty()).then_some(names)
    };
    if let Some(names) = names("library") {
        let mut host = Command::new("cargo");
        host.args(["test", "--workspace", "--no-fail-fast", "--"]).args(names).current_dir(repository(""));
        run_cargo_test("library", &mut host, report)?;
    }

    // The kernel is a workspace of its own, for another target: here its plain logic is compiled for the host.
    if let Some(names) = names("kernel") {
        let mut kernel = Toolchain::install()?.host_cargo("test");
        kernel.args(["--no-fail-fast", "--"]).args(names).current_dir(repository("kernel"));
        run_cargo_test("kernel", &mut kernel, report)?;
    }

    // The models replace the atomics of the library, so that everything is built once more: a target directory of its own.
    if let Some(names) = names("loom") {
        let mut loom = Command::new("cargo");
        loom.args(["test", "-p", "portcullis-gate", "--release", "--test", "loom", "--target-dir"])
            .arg(repository("target/loom"))
            .arg("--")
            .args(names)
            .env("RUSTFLAGS", "--cfg loom")
            .current_dir(repository(""));
        run_cargo_test("loom", &mut loom, report)?;
    }
    Ok(())
}

/// Runs a `cargo test` and reports each test that it names.
fn run_cargo_test(suite: &str, command: &mut Command, report: &mut Report) -> Result<()> {
    let shown = format!("{command:?}");
    let failed_before = report.failed();
    let mut cargo =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {shown}"))?;
    let (mut reported, mut claimed) = (0, 0);
    let mut details = String::new();
    let output = cargo.stdout.take().context("cargo's output is a pipe")?;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match Line::parse(&line) {
            Line::Test(name, verdict) => {
                reported += 1;
                let name = format!("{suite}/{name}");
                match verdict {
                    Verdict::Ok => report.pass(&name),
                    Verdict::Failed => report.fail(&name, "see below"),
                    Verdict::Ignored(reason) => report.skip(&name, reason),
                }
            }
            Line::Result(count) => claimed += count,
            Line::Other => {
                details.push_str(&line);
                details.push('\n');
            }
        }
    }
    let status = cargo.wait()?;
    if report.failed() > failed_before {
        println!("{details}");
    } else if !status.success() {
        report.fail(suite, &format!("{shown}: {status}; its errors stand above"));
    }
    if reported != claimed {
        report.fail(suite, &format!("{shown}: {claimed} tests ran, but {reported} could be told apart"));
    }
    Ok(())
}

/// Whether the test `name` fails in this run of `cargo test`; an error when it does not run at all.
pub fn fails(command: &mut Command, name: &str) -> Result<bool> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut ran = false;
    let mut failed = false;
    for line in text.lines() {
        if let Line::Test(test, verdict) = Line::parse(line)
            && (test == name || test.ends_with(&format!("::{name}")))
        {
            ran = true;
            failed |= verdict == Verdict::Failed;
        }
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(ran, "{shown} ran no test `{name}`:\n{}", crate::run::log_tail(&errors));
    Ok(failed)
}

#[derive(Debug, PartialEq)]
enum Verdict<'a> {
    Ok,
    Failed,
    Ignored(&'a str),
}

/// One line of libtest's output.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Test(&'a str, Verdict<'a>),
    /// The sum at the end of a test program: how many tests it ran or ignored.
    Result(usize),
    Other,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Line<'a> {
        if let Some(sums) = line.strip_prefix("test result: ") {
            let sum = |what: &str| -> Option<usize> {
                let before = &sums[..sums.find(what)?];
                before.trim_end().rsplit(' ').next()?.parse().ok()
            };
            let counts = ["passed", "failed", "ignored", "measured"];
            return Line::Result(counts.iter().filter_map(|what| sum(what)).sum());
        }
        let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            return Line::Other;
        };
        let name = name.trim_end_matches(" - should panic");
        match verdict {
            "ok" => Line::Test(name, Verdict::Ok),
            "FAILED" => Line::Test(name, Verdict::Failed),
            "ignored" => Line::Test(name, Verdict::Ignored("marked #[ignore]")),
            _ => match verdict.strip_prefix("ignored, ") {
                Some(reason) => Line::Test(name, Verdict::Ignored(reason)),
                None => Line::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_understood() {
        let cases = [
            ("test work::tests::raise ... ok", Line::Test("work::tests::raise", Verdict::Ok)),
            ("test a ... FAILED", Line::Test("a", Verdict::Failed)),
            ("test a - should panic ... ok", Line::Test("a", Verdict::Ok)),
            (
                "test src/lib.rs - x (line 3) - compile fail ... ok",
                Line::Test("src/lib.rs - x (line 3) - compile fail", Verdict::Ok),
            ),
            ("test a ... ignored, needs time", Line::Test("a", Verdict::Ignored("needs time"))),
            (
                "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 4 filtered out; finished in 0.1s",
                Line::Result(6),
            ),
            ("running 3 tests", Line::Other),
            ("", Line::Other),
        ];
        for (line, parsed) in cases {
            assert_eq!(Line::parse(line), parsed, "{line}");
        }
    }
}
