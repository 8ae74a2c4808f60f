//! The table, for the terminal and for `docs/conformance.md`.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Row;
use crate::repository;
use crate::selftests::compare::Verdict;

const PAGE: &str = "docs/conformance.md";

const HEAD: [&str; 6] = ["test", "bits", "cpu", "ours", "stock", "equal"];

/// A line per test and outcome.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    for line in std::iter::once(HEAD.map(str::to_owned)).chain(lines(rows)) {
        let [test, bits, cpu, ours, stock, equal] = line;
        let _ = writeln!(out, "{test:42} {bits:>4} {cpu:17} {ours:20} {stock:20} {equal}");
    }
    out
}

/// Rows that say the same of a test, on several machines.
struct Group<'a> {
    row: &'a Row,
    machines: Vec<(&'a str, u32)>,
    /// How many tests in a row are modes of one program.
    modes: usize,
}

impl Group<'_> {
    fn says(&self) -> (u32, &str, &str, &Verdict) {
        (self.row.bits, &self.row.ours, &self.row.stock, &self.row.verdict)
    }

    fn program(&self) -> &str {
        self.row.test.split(' ').next().unwrap_or_default()
    }
}

/// Groups alike rows: machines of a test first, then modes of a program. The tests stay in their order.
fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut tests: Vec<Vec<Group>> = Vec::new();
    for row in rows {
        let group = Group { row, machines: vec![(&row.cpu, row.smp)], modes: 1 };
        let same = |test: &&mut Vec<Group>| (&test[0].row.test, test[0].row.bits) == (&row.test, row.bits);
        match tests.iter_mut().find(same) {
            None => tests.push(vec![group]),
            Some(test) => match test.iter_mut().find(|other| other.says() == group.says()) {
                Some(other) => other.machines.extend(group.machines),
                None => test.push(group),
            },
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for group in tests.into_iter().flatten() {
        match groups.last_mut() {
            Some(last)
                if last.program() == group.program()
                    && last.row.test != group.row.test
                    && last.says() == group.says()
                    && last.machines == group.machines =>
            {
                last.modes += 1;
            }
            _ => groups.push(group),
        }
    }
    groups
}

fn lines(rows: &[Row]) -> Vec<[String; 6]> {
    let all = machines(rows);
    groups(rows)
        .iter()
        .map(|group| {
            let row = group.row;
            let test = match group.modes {
                1 => row.test.clone(),
                modes => format!("{}, {modes} modes", group.program()),
            };
            let equal = match &row.verdict {
                Verdict::Equal => "yes".to_owned(),
                Verdict::Better => "better".to_owned(),
                Verdict::Survives => "better: stock dies".to_owned(),
                Verdict::Known(reason) => format!("no: {reason}"),
                Verdict::Different => "NO".to_owned(),
            };
            let cpu = match group.machines == all && all.len() > 1 {
                true => "all".to_owned(),
                false => in_words(&group.machines),
            };
            [test, row.bits.to_string(), cpu, row.ours.clone(), row.stock.clone(), equal]
        })
        .collect()
}

/// The machines of a run, in their order.
fn machines(rows: &[Row]) -> Vec<(&str, u32)> {
    let mut machines = Vec::new();
    for row in rows {
        let machine = (row.cpu.as_str(), row.smp);
        if !machines.contains(&machine) {
            machines.push(machine);
        }
    }
    machines
}

/// `max ×1 ×2, EPYC ×2`.
fn in_words(machines: &[(&str, u32)]) -> String {
    let models: Vec<String> = machines
        .chunk_by(|a, b| a.0 == b.0)
        .map(|model| {
            let counts: Vec<String> = model.iter().map(|(_, smp)| format!("×{smp}")).collect();
            format!("{} {}", model[0].0, counts.join(" "))
        })
        .collect();
    models.join(", ")
}

/// Writes the page.
pub fn write(rows: &[Row], stock: &str) -> Result<()> {
    let date = crate::progress::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
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
         The programs are Linux 6.1's own (tools/testing/selftests), static, from unmodified sources. Each runs in our kernel and in \
         stock\nLinux, in QEMU with the same options. A row shows how the program ended and how many of its result lines are \
         good; `equal`\nmeans the same ending and the same lines. `better`: it passes in ours and not in stock. `stock \
         dies`: on this emulated\nmachine it makes stock oops or hang (with SMAP on, QEMU takes the reads of a far return in user mode \
         for the kernel's;\non Intel models it lets 32-bit programs use SYSCALL, for which Linux has no door there); in ours it gives the signal, \
         or what it\ngives in stock on other machines. What else is linked into seccomp_bpf is in tests/conformance.\n\n\
         Stock: {stock}.\nMachines: {}; `all` are these. What is not recorded with four CPUs is compared with two.\n\n\
         | {} |\n| --- | --- | --- | --- | --- | --- |\n",
        command.join(" "),
        String::from_utf8_lossy(&date.stdout).trim(),
        rows.len(),
        in_words(&machines(rows)),
        HEAD.join(" | "),
    );
    for line in lines(rows) {
        let _ = writeln!(text, "| {} |", line.join(" | "));
    }
    let path = repository(PAGE);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
