//! The results: as a table for the terminal, as `results.json` for everything else.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::program::ROWS;

/// [`Measurement::host`] when Portcullis is the gate of Linux.
pub const LINUX: &str = "linux-6.1";

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
    /// Executed instructions in our kernel.
    pub ours: Option<u64>,
    /// Executed instructions in the stock kernel.
    pub stock: Option<u64>,
    /// Ours by stock.
    pub ratio: Option<f64>,
}

impl Measurement {
    /// Puts two counts side by side.
    pub fn new(
        row: &'static str,
        host: &'static str,
        cpu: &str,
        mitigations: &'static str,
        ours: Option<u64>,
        stock: Option<u64>,
    ) -> Measurement {
        let ratio = ours.zip(stock).map(|(ours, stock)| ours as f64 / stock as f64);
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
            "ours": self.ours,
            "stock": self.stock,
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
            (_, "getppid") => 0.45,
            _ => 1.0,
        }
    }

    /// Whether the row has a ratio, and it is above its target.
    pub fn is_above_target(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio > self.target())
    }

    /// The words for a reader.
    pub fn title(&self) -> &'static str {
        ROWS.iter().find(|(name, _)| *name == self.row).map_or(self.row, |(_, title)| title)
    }
}

/// One line per measurement, in groups by CPU model.
pub fn table(measurements: &[Measurement]) -> String {
    let mut out = String::new();
    let mut cpu = "";
    for measurement in measurements {
        if measurement.cpu != cpu {
            cpu = &measurement.cpu;
            let _ = writeln!(out, "\n{:<32}{:>8}{:>8}{:>8}", format!("-cpu {cpu}"), "ours", "stock", "ratio");
        }
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |n| n.to_string());
        let _ = writeln!(
            out,
            "  {:<34}{:>8}{:>8}{:>8}{}",
            measurement.title(),
            number(measurement.ours),
            number(measurement.stock),
            measurement.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
            if measurement.is_above_target() {
                format!("  above its target of {}", measurement.target())
            } else {
                String::new()
            },
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(row: &'static str, ours: u64, stock: u64) -> Measurement {
        let ratio = Some(ours as f64 / stock as f64);
        let (ours, stock) = (Some(ours), Some(stock));
        Measurement { row, host: "portcullis", cpu: "max".into(), mitigations: "off", ours, stock, ratio }
    }

    #[test]
    fn a_row_above_its_target_says_so() {
        let text = table(&[measurement("getppid", 46, 100), measurement("nmi-user", 99, 100)]);
        let above: Vec<_> = text.lines().filter(|line| line.contains("above its target of 0.45")).collect();
        assert_eq!(above.len(), 1);
        assert!(above[0].contains("getppid"));
    }
}
