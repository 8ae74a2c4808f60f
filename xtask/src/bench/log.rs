//! The instructions that QEMU executed, one by one, from its log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::Guest;

/// The kernel half of the address space (canonical addresses with the top bit set).
const KERNEL_HALF: u64 = 1 << 63;

/// What lies between two instructions of user mode.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Crossing {
    /// The instruction of user mode before it.
    pub from: u64,
    /// The addresses that the kernel executed, in order.
    pub addresses: Vec<u64>,
}

/// What a log holds.
#[derive(Default)]
pub struct Log {
    /// Each distinct crossing and how often it was seen, the most frequent first.
    pub crossings: Vec<(Crossing, u32)>,
    /// The bytes of each instruction by its address.
    pub code: HashMap<u64, Vec<u8>>,
}

impl Log {
    /// How often the program has crossed from one place.
    fn rounds(&self) -> u32 {
        let mut from = HashMap::new();
        self.crossings.iter().for_each(|(crossing, times)| *from.entry(crossing.from).or_default() += times);
        from.into_values().max().unwrap_or(0)
    }
}

/// So often the program must have come round for a median.
const ROUNDS: u32 = 3;

/// The options that make QEMU log each instruction from the start to `log`.
pub fn options(log: &Path) -> Result<[&str; 5]> {
    Ok(["-singlestep", "-d", "exec,nochain,in_asm", "-D", log.to_str().context("path is not UTF-8")?])
}

/// Runs the program in a loop over `row` and logs at least `bytes` of instructions, about 100 bytes each.
///
/// Instructions are counted here as in a measurement, so that what depends on the time, as a scheduler's decisions do, is
/// as it is there.
///
/// # Errors
/// The program has not come round often enough in three attempts.
pub fn record(guest: &Guest, row: &str, bytes: u64) -> Result<Log> {
    // On a busy host the first rounds may not be over when logging begins, and fill the log.
    for settled in [500, 2000, 8000] {
        let log = record_once(guest, row, bytes, Duration::from_millis(settled))?;
        if log.rounds() >= ROUNDS || row == "nmi-user" && !log.crossings.is_empty() {
            return Ok(log);
        }
    }
    bail!("the program has not come round to {row} {ROUNDS} times while its instructions were logged")
}

fn record_once(guest: &Guest, row: &str, bytes: u64, settled: Duration) -> Result<Log> {
    let path = guest.directory.join("instructions.log");
    let mut running =
        guest.start(&["-icount", "shift=0,sleep=off", "-D", path.to_str().context("path is not UTF-8")?])?;
    running.wait_ready()?;
    // Let the first rounds pass: they allocate what the later ones find.
    std::thread::sleep(settled);
    running.qmp.monitor("log exec,nochain,in_asm")?;
    running.qmp.monitor("singlestep on")?;
    let started = Instant::now();
    while fs::metadata(&path).map_or(0, |m| m.len()) < bytes && started.elapsed() < Duration::from_secs(60) {
        if row == "nmi-user" {
            running.qmp.inject_nmi()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(running);
    let log = read(&path)?;
    fs::remove_file(&path)?;
    Ok(log)
}

/// Reads a log.
pub fn read(path: &Path) -> Result<Log> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut log = Log::default();
    let mut seen: HashMap<Crossing, u32> = HashMap::new();
    let mut addresses = Vec::new();
    let mut from = None;
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some((address, bytes)) = code(&line) {
            add_code(&mut log.code, address, bytes);
            continue;
        }
        let Some(pc) = program_counter(&line) else {
            continue;
        };
        if pc >= KERNEL_HALF {
            addresses.push(pc);
            continue;
        }
        // What was under way when the log began is no whole crossing.
        if let (Some(from), false) = (from, addresses.is_empty()) {
            *seen.entry(Crossing { from, addresses: std::mem::take(&mut addresses) }).or_default() += 1;
        }
        addresses.clear();
        from = Some(pc);
    }
    log.crossings = seen.into_iter().collect();
    log.crossings.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    Ok(log)
}

/// From `Trace 0: 0x7f… [cs_base/pc/flags/cflags] symbol`: the pc.
fn program_counter(line: &str) -> Option<u64> {
    let inside = line.strip_prefix("Trace ")?.split_once('[')?.1;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

/// From `0xffffffff81000010:  0f 01 f8   swapgs`: the address and the bytes.
fn code(line: &str) -> Option<(u64, Vec<u8>)> {
    let (address, rest) = line.strip_prefix("0x")?.split_once(":  ")?;
    let byte = |word: &str| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok()).flatten();
    let bytes = rest.split(' ').map_while(byte).collect();
    Some((u64::from_str_radix(address, 16).ok()?, bytes))
}

/// A long instruction takes two lines.
fn add_code(code: &mut HashMap<u64, Vec<u8>>, address: u64, bytes: Vec<u8>) {
    const BYTES_PER_LINE: u64 = 8;
    match code.get_mut(&address.wrapping_sub(BYTES_PER_LINE)) {
        Some(first) if first.len() as u64 == BYTES_PER_LINE && !code_ends(first) => first.extend(bytes),
        _ => {
            code.insert(address, bytes);
        }
    }
}

/// Whether the bytes are a whole instruction.
fn code_ends(bytes: &[u8]) -> bool {
    !iced_x86::Decoder::new(64, bytes, iced_x86::DecoderOptions::NONE).decode().is_invalid()
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

    #[test]
    fn the_code_of_a_long_instruction_takes_two_lines() {
        let mut log = HashMap::new();
        for line in [
            "0xffffffff8020043c:  0f 01 f8                 swapgs   ",
            "0xffffffff8020043f:  65 48 89 24 25 08 00 00  movq     %rsp, %gs:8",
            "0xffffffff80200447:  00",
            "0xffffffff80200448:  90                       nop",
        ] {
            let (address, bytes) = code(line).expect("a line of code");
            add_code(&mut log, address, bytes);
        }
        assert_eq!(log.len(), 3);
        assert_eq!(log[&0xffff_ffff_8020_043f], [0x65, 0x48, 0x89, 0x24, 0x25, 8, 0, 0, 0]);
    }
}
