//! `./x bench --profile ROW`, and the same of `./x linux bench`: where the instructions of one crossing go, function by
//! function.
//!
//! QEMU steps instruction by instruction and logs each; a crossing is what lies between two instructions of user mode.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::Guest;
use crate::kernel;

/// Enough for some hundred crossings of the longest kind; about 100 bytes of log for each instruction.
const LOG_BYTES: u64 = 100 << 20;

/// The kernel half of the address space (canonical addresses with the top bit set).
const KERNEL_HALF: u64 = 1 << 63;

/// Runs the program in a loop over `row` and prints its most frequent kinds of crossing. `elf` has the kernel's symbols.
///
/// Instructions are counted here as in a measurement, so that what depends on the time, as a scheduler's decisions do, is
/// as it is there.
pub fn run(guest: &Guest, elf: &Path, row: &str) -> Result<()> {
    let log = guest.directory.join("instructions.log");
    let mut running =
        guest.start(&["-icount", "shift=0,sleep=off", "-D", log.to_str().context("path is not UTF-8")?])?;
    running.wait_ready()?;
    // Let the first rounds pass: they allocate what the later ones find.
    std::thread::sleep(Duration::from_secs(1));
    running.qmp.monitor("singlestep on")?;
    running.qmp.monitor("log exec,nochain")?;
    let started = Instant::now();
    while fs::metadata(&log).map_or(0, |m| m.len()) < LOG_BYTES && started.elapsed() < Duration::from_secs(60) {
        if row == "nmi-user" {
            running.qmp.inject_nmi()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(running);
    let symbols = Symbols::read(elf)?;
    let crossings = read_crossings(&log)?;
    fs::remove_file(&log)?;
    if crossings.is_empty() {
        bail!("no crossing of {row} was logged");
    }
    print(&crossings, &symbols);
    Ok(())
}

/// Each distinct crossing, as the addresses it executed, and how often it was seen.
fn read_crossings(log: &Path) -> Result<Vec<(Vec<u64>, u32)>> {
    let mut seen: HashMap<Vec<u64>, u32> = HashMap::new();
    let mut current = Vec::new();
    let mut complete = false;
    for line in BufReader::new(File::open(log)?).split(b'\n') {
        let line = line?;
        let Some(pc) = program_counter(&String::from_utf8_lossy(&line)) else {
            continue;
        };
        if pc >= KERNEL_HALF {
            current.push(pc);
        } else {
            // What was under way when the log began is no whole crossing.
            if complete && !current.is_empty() {
                *seen.entry(std::mem::take(&mut current)).or_default() += 1;
            }
            current.clear();
            complete = true;
        }
    }
    let mut crossings: Vec<_> = seen.into_iter().collect();
    crossings.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    Ok(crossings)
}

/// From `Trace 0: 0x7f… [cs_base/pc/flags/cflags] symbol`: the pc.
fn program_counter(line: &str) -> Option<u64> {
    let inside = line.strip_prefix("Trace ")?.split_once('[')?.1;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

fn print(crossings: &[(Vec<u64>, u32)], symbols: &Symbols) {
    let total: u32 = crossings.iter().map(|(_, times)| times).sum();
    for (addresses, times) in crossings.iter().take(4).filter(|(_, times)| times * 20 >= total) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pc_is_the_second_field() {
        let line = "Trace 0: 0x7f1e4c000100 [0000000000000000/ffffffff81000010/00c0b2b0/ff021000] name";
        assert_eq!(program_counter(line), Some(0xffff_ffff_8100_0010));
        assert_eq!(program_counter("IN: name"), None);
    }
}
