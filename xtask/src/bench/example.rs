//! The rows of the kernels in `examples/minimal`: a null system call in the smallest kernel, from the first instruction of the
//! door to SYSRET.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cost::Cost;
use super::log;
use super::report::{Count, EXAMPLES, Measurement};
use crate::console::Capture;
use crate::example;
use crate::qemu::{Boot, Console, Machine};
use crate::repository;

/// How often the examples' program makes the call (`examples/minimal/src/program.s`).
const CALLS: u32 = 4;

/// The rows and their kernels.
const KERNELS: [(&str, &str); 2] = [("null-hooks", "portcullis-minimal"), ("null-loop", "portcullis-loop")];

/// How long a boot may take, with each instruction logged.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures them.
pub fn measure(cpus: &[String]) -> Result<Vec<Measurement>> {
    let images = example::build(false)?;
    let scratch = super::scratch(&repository(".cache/bench"))?;
    let path = scratch.path().join("example.log");
    let mut out = Vec::new();
    for cpu in cpus {
        for (row, kernel) in KERNELS {
            let extra = log::options(&path)?.iter().map(Into::into).collect();
            let mut boot = Boot::new(Machine { cpu: cpu.clone(), extra, ..Machine::default() }, &images.join(kernel));
            boot.timeout = Some(LIMIT);
            boot.run(Console::capture(&Capture::default())).with_context(|| format!("the row {row}"))?;
            let log = log::read(&path)?;
            fs::remove_file(&path)?;
            let (crossing, times) = log.crossings.first().context("no crossing was logged")?;
            ensure!(*times >= CALLS - 1, "{kernel} makes the null call {CALLS} times, and no crossing was as frequent");
            let count = Count {
                instructions: Some(crossing.addresses.len() as u64),
                cost: Some(Cost::of(&crossing.addresses, &log)),
            };
            out.push(Measurement::new(row, EXAMPLES, cpu, "off", count, Count::default()));
        }
    }
    Ok(out)
}
