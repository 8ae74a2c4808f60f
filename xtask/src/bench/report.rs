//! The results: as a table for the terminal, as `results.json` for everything else.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::cost::Cost;
use super::program::ROWS;

/// [`Measurement::host`] when Portcullis is the gate of Linux.
pub const LINUX: &str = "linux";

/// [`Measurement::host`] of the example kernels.
pub const EXAMPLES: &str = "examples/minimal";

/// The rows of the example kernels, and the words for a reader.
const EXAMPLE_ROWS: [(&str, &str); 2] =
    [("null-hooks", "null call, smallest kernel, hooks"), ("null-loop", "null call, smallest kernel, loop")];

/// What one kernel takes for a crossing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Executed instructions, those of user mode included where the program counts them.
    pub instructions: Option<u64>,
    /// What the kernel's instructions do.
    pub cost: Option<Cost>,
}

/// One measured crossing: the same program, CPU model and options in both kernels.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Which crossing; see `program::ROWS`.
    pub row: &'static str,
    /// The kernel that Portcullis is the gate of.
    pub host: &'static str,
    /// QEMU's CPU model.
    pub cpu: String,
    /// What was said about mitigations: to the stock kernel beside ours, which has none to turn off; to both Linuxes.
    pub mitigations: &'static str,
    /// Our kernel.
    pub ours: Count,
    /// The stock kernel.
    pub stock: Count,
    /// Ours by stock, in instructions.
    pub ratio: Option<f64>,
}

impl Measurement {
    /// Puts two counts side by side.
    pub fn new(
        row: &'static str,
        host: &'static str,
        cpu: &str,
        mitigations: &'static str,
        ours: Count,
        stock: Count,
    ) -> Measurement {
        let ratio = ours.instructions.zip(stock.instructions).map(|(ours, stock)| ours as f64 / stock as f64);
        Measurement {
            row,
            host,
            cpu: cpu.to_owned(),
            mitigations,
            ours,
            stock,
            ratio: ratio.map(|ratio| (ratio * 1000.0).round() / 1000.0),
        }
    }

    /// As an object of `results.json`.
    pub fn json(&self) -> Value {
        json!({
            "row": self.row,
            "host": self.host,
            "cpu": self.cpu,
            "mitigations": self.mitigations,
            "ours": self.ours.instructions,
            "ours_cost": self.ours.cost.map(Cost::json),
            "stock": self.stock.instructions,
            "stock_cost": self.stock.cost.map(Cost::json),
            "ratio": self.ratio,
        })
    }

    /// What `ratio` should be at most.
    pub fn target(&self) -> f64 {
        match (self.host, self.row) {
            (LINUX, "getppid" | "unknown-syscall" | "int80" | "vdso32") => 0.92,
            // These move with the place of code and of the stack.
            (LINUX, "ud-signal" | "fault-signal" | "single-step" | "ptrace-syscall") => 1.005,
            (LINUX, _) => 1.0,
            (_, "getppid") => 0.36,
            (_, "unknown-syscall") => 0.6,
            _ => 1.0,
        }
    }

    /// What the example kernels' instructions should be at most.
    fn limit(&self) -> Option<u64> {
        match (self.host, self.row) {
            (EXAMPLES, "null-hooks") => Some(95),
            (EXAMPLES, "null-loop") => Some(110),
            _ => None,
        }
    }

    /// How many locked instructions our kernel may execute: none in a null system call.
    fn locked_limit(&self) -> Option<u64> {
        (self.host == EXAMPLES || (self.host != LINUX && ["getppid", "unknown-syscall"].contains(&self.row)))
            .then_some(0)
    }

    /// Which target the row misses, if it misses one.
    pub fn above_target(&self) -> Option<String> {
        let locked = self.ours.cost.map(|cost| cost.locked);
        if let (Some(count), Some(limit)) = (self.ours.instructions, self.limit())
            && count > limit
        {
            return Some(format!("above its target of {limit}"));
        }
        if let (Some(locked), Some(limit)) = (locked, self.locked_limit())
            && locked > limit
        {
            return Some(format!("more locked instructions than {limit}"));
        }
        let ratio = self.ratio?;
        (ratio > self.target()).then(|| format!("above its target of {}", self.target()))
    }

    /// The words for a reader.
    pub fn title(&self) -> &'static str {
        ROWS.iter().chain(&EXAMPLE_ROWS).find(|(name, _)| *name == self.row).map_or(self.row, |(_, title)| title)
    }
}

/// One line per measurement, in groups by CPU model.
pub fn table(measurements: &[Measurement]) -> String {
    let mut out = String::new();
    let mut cpu = "";
    for measurement in measurements {
        if measurement.cpu != cpu {
            cpu = &measurement.cpu;
            let _ = writeln!(
                out,
                "\n{:<36}{:>8}{:>8}{:>8}{:>16}{:>16}",
                format!("-cpu {cpu}"),
                "ours",
                "stock",
                "ratio",
                "ours m/l/s",
                "stock m/l/s"
            );
        }
        let number = |count: Count| count.instructions.map_or("-".to_owned(), |n| n.to_string());
        let cost = |count: Count| {
            count.cost.map_or("-".to_owned(), |cost| format!("{}/{}/{}", cost.memory, cost.locked, cost.serializing))
        };
        let _ = writeln!(
            out,
            "  {:<34}{:>8}{:>8}{:>8}{:>16}{:>16}{}",
            measurement.title(),
            number(measurement.ours),
            number(measurement.stock),
            measurement.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
            cost(measurement.ours),
            cost(measurement.stock),
            measurement.above_target().map_or(String::new(), |target| format!("  {target}")),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(instructions: u64, locked: u64) -> Count {
        Count { instructions: Some(instructions), cost: Some(Cost { locked, ..Cost::default() }) }
    }

    fn measurement(row: &'static str, host: &'static str, ours: Count) -> Measurement {
        Measurement::new(row, host, "max", "off", ours, count(100, 2))
    }

    #[test]
    fn a_row_above_its_target_says_so() {
        let text = table(&[
            measurement("getppid", "portcullis", count(46, 0)),
            measurement("unknown-syscall", "portcullis", count(46, 1)),
            measurement("null-hooks", EXAMPLES, count(96, 0)),
            measurement("nmi-user", "portcullis", count(99, 3)),
        ]);
        let above = |what: &str| text.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
        assert_eq!(above("target").len(), 2);
        assert!(above("above its target of 0.36")[0].contains("getppid"));
        assert!(above("above its target of 95")[0].contains("hooks"));
        assert!(above("more locked instructions than 0")[0].contains("unknown"));
    }
}
