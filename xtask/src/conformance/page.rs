//! The table, for the terminal and for `docs/conformance.md`.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Row;
use crate::repository;
use crate::selftests::compare::Verdict;

const PAGE: &str = "docs/conformance.md";

/// A line per test; alike modes of one program in one line.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    for line in std::iter::once(HEAD.map(str::to_owned)).chain(lines(rows)) {
        let [test, bits, cpu, ours, stock, equal] = line;
        let _ = writeln!(out, "{test:42} {bits:>4} {cpu:17} {ours:20} {stock:20} {equal}");
    }
    out
}

const HEAD: [&str; 6] = ["test", "bits", "cpu", "ours", "stock", "equal"];

fn lines(rows: &[Row]) -> Vec<[String; 6]> {
    let program = |row: &Row| row.test.split(' ').next().unwrap_or_default().to_owned();
    let alike = |a: &Row, b: &Row| {
        program(a) == program(b)
            && (a.bits, &a.cpu, a.smp, &a.ours, &a.stock, &a.verdict)
                == (b.bits, &b.cpu, b.smp, &b.ours, &b.stock, &b.verdict)
    };
    rows.chunk_by(alike)
        .map(|group| {
            let row = &group[0];
            let test = match group.len() {
                1 => row.test.clone(),
                modes => format!("{}, {modes} modes", program(row)),
            };
            let equal = match &row.verdict {
                Verdict::Equal => "yes".to_owned(),
                Verdict::Better => "better".to_owned(),
                Verdict::Known(reason) => format!("no: {reason}"),
                Verdict::Different => "NO".to_owned(),
            };
            [
                test,
                row.bits.to_string(),
                format!("{} ×{}", row.cpu, row.smp),
                row.ours.clone(),
                row.stock.clone(),
                equal,
            ]
        })
        .collect()
}

/// Writes the page.
pub fn write(rows: &[Row]) -> Result<()> {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    // Without the options that name files of one machine.
    let mut command: Vec<String> = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kernel" | "--json" => drop(words.next()),
            _ => command.push(word),
        }
    }
    let different = rows.iter().filter(|row| !row.verdict.is_accepted()).count();
    let mut text = format!(
        "# Linux's selftests in the reference kernel\n\n\
         Written by `./x {}` on {}. {} runs, {different} with a difference that has no reason.\n\n\
         The programs are Linux 6.1's own (tools/testing/selftests), unmodified and static. Each runs in our kernel and in \
         stock\nLinux, in QEMU with the same options. A row shows how the program ended and how many of its result lines are \
         good; `equal`\nmeans the same ending and the same lines. `better`: it passes in ours and not in stock.\n\n\
         | {} |\n| --- | --- | --- | --- | --- | --- |\n",
        command.join(" "),
        String::from_utf8_lossy(&date.stdout).trim(),
        rows.len(),
        HEAD.join(" | "),
    );
    for line in lines(rows) {
        let _ = writeln!(text, "| {} |", line.join(" | "));
    }
    let path = repository(PAGE);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
