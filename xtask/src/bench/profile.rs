//! `./x bench --profile ROW`, and the same of `./x linux bench`: where the instructions of one crossing go, function by
//! function.
//!
//! QEMU steps instruction by instruction and logs each; a crossing is what lies between two instructions of user mode.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::cost::Cost;
use super::guest::Guest;
use super::log::{self, Log};
use crate::kernel;

/// Enough for some hundred crossings of the longest kind.
const LOG_BYTES: u64 = 100 << 20;

/// Runs the program in a loop over `row` and prints its most frequent kinds of crossing. `elf` has the kernel's symbols.
pub fn run(guest: &Guest, elf: &Path, row: &str) -> Result<()> {
    let log = log::record(guest, row, LOG_BYTES)?;
    print(&log, &Symbols::read(elf)?);
    let Cost { memory, locked, serializing } = Cost::per_round(&log, row);
    println!("\nper round: {memory} memory accesses, {locked} locked and {serializing} serializing instructions");
    Ok(())
}

fn print(log: &Log, symbols: &Symbols) {
    let total: u32 = log.crossings.iter().map(|(_, times)| times).sum();
    for (crossing, times) in log.crossings.iter().take(4).filter(|(_, times)| times * 20 >= total) {
        let addresses = &crossing.addresses;
        println!("\n{} instructions in the kernel, {times} of {total} crossings:", addresses.len());
        // Consecutive instructions of one function, in the order of execution.
        let mut stretches: Vec<(&str, usize)> = Vec::new();
        for address in addresses {
            let name = symbols.name(*address);
            match stretches.last_mut() {
                Some((last, count)) if *last == name => *count += 1,
                _ => stretches.push((name, 1)),
            }
        }
        for (name, count) in &stretches {
            println!("  {count:>6}  {name}");
        }
        let mut sums: HashMap<&str, usize> = HashMap::new();
        for (name, count) in stretches {
            *sums.entry(name).or_default() += count;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        println!("  by function:");
        for (name, count) in sums.iter().take(15) {
            println!("  {count:>6}  {name}");
        }
    }
}

/// Functions of the kernel by address.
struct Symbols(Vec<(u64, String)>);

impl Symbols {
    fn read(kernel: &Path) -> Result<Self> {
        let text = kernel::symbols(kernel)?;
        let parse = |line: &str| {
            let (address, name) = line.split_once(' ')?;
            Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
        };
        Ok(Self(text.lines().filter_map(parse).collect()))
    }

    fn name(&self, address: u64) -> &str {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        after.checked_sub(1).map_or("?", |index| &self.0[index].1)
    }
}
