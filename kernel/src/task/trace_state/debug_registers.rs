//! A task's debug registers, as numbers: what a tracer may put there, and what the CPU gets.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::errno::{Errno, Result};
use crate::memory::USER_END;

/// How many addresses there are.
pub const ADDRESSES: usize = 4;
/// The bits of DR6 that read as 1 when nothing happened (SDM volume 3, 17.2.3).
pub const DR6_QUIET: u64 = 0xffff_0ff0;
/// DR7: local and global enable of one address.
const ENABLE: u64 = 3;
/// DR7: bits that are not the program's: 10 reads as 1, 11 and 12 are transactions, 13 traps accesses to these registers.
const DR7_RESERVED: u64 = 0xffff_ffff_0000_fc00;
/// DR7: local exact, global exact.
const EXACT: u64 = 3 << 8;

/// A task's debug registers. Changed by its tracer while it is stopped, and by the task itself.
#[derive(Default)]
pub struct DebugRegisters {
    pub addresses: [AtomicU64; ADDRESSES],
    /// Bit n: address n may be asked for, as it was set once.
    pub known: AtomicU32,
    /// The types and lengths in force, as in DR7; also of addresses that are disabled now.
    pub shapes: AtomicU64,
    /// DR7 as it was written.
    pub written: AtomicU64,
    /// DR7 as the CPU gets it.
    pub control: AtomicU64,
    /// What happened last, as PTRACE_PEEKUSER shows DR6, but with the bits up that are.
    pub status: AtomicU64,
}

/// Type: execution of an instruction.
const EXECUTE: u64 = 0;
/// Type: writes.
const WRITE: u64 = 1;
/// Type: accesses to I/O ports.
const PORTS: u64 = 2;

/// Where type and length of address `n` are in DR7.
const fn shift(n: usize) -> usize {
    16 + 4 * n
}

/// Type and length of address `n` in DR7.
const fn shape(n: usize) -> u64 {
    0xf << shift(n)
}

/// What DR7 says about one address.
struct Breakpoint {
    enabled: bool,
    kind: u64,
    len: u64,
}

impl Breakpoint {
    fn decode(control: u64, n: usize) -> Breakpoint {
        let bits = control >> shift(n);
        Breakpoint {
            enabled: control >> (2 * n) & ENABLE != 0,
            kind: bits & 3,
            // 0: 1 byte, 1: 2 bytes, 2: 8 bytes, 3: 4 bytes.
            len: [1, 2, 8, 4][(bits >> 2 & 3) as usize],
        }
    }

    /// Whether the CPU may be given it: not I/O ports, not kernel memory, an aligned range; execution of one byte.
    fn check(&self, address: u64) -> Result<()> {
        if self.kind == PORTS || self.kind == EXECUTE && self.len != 1 {
            return Err(Errno::EINVAL);
        }
        if !address.is_multiple_of(self.len) {
            return Err(Errno::EINVAL);
        }
        check_address(address, self.len)
    }
}

/// Whether all of it is user memory.
fn check_address(address: u64, len: u64) -> Result<()> {
    let end = address.checked_add(len - 1).ok_or(Errno::EINVAL)?;
    if end >= USER_END {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

impl DebugRegisters {
    /// PTRACE_PEEKUSER of DR`n`.
    pub fn get(&self, n: usize) -> u64 {
        match n {
            0..ADDRESSES => self.addresses[n].load(Relaxed),
            6 => self.status.load(Relaxed) ^ DR6_QUIET,
            7 => self.written.load(Relaxed),
            _ => 0,
        }
    }

    /// Whether the CPU is to be given something.
    pub fn is_armed(&self) -> bool {
        self.control.load(Relaxed) != 0
    }

    /// Whether address `n` is enabled, and for execution.
    pub fn enabled(&self, n: usize) -> Option<bool> {
        let breakpoint = Breakpoint::decode(self.control.load(Relaxed), n);
        breakpoint.enabled.then_some(breakpoint.kind == EXECUTE)
    }

    pub fn is_known(&self, n: usize) -> bool {
        self.known.load(Relaxed) & 1 << n != 0
    }

    pub fn set_address(&self, n: usize, address: u64) -> Result<()> {
        let shapes = self.shapes.load(Relaxed);
        if self.is_known(n) {
            // What was said about it last must hold for the new address, too.
            Breakpoint::decode(shapes, n).check(address)?;
        } else {
            check_address(address, 1)?;
            self.shapes.store(shapes & !shape(n) | WRITE << shift(n), Relaxed);
            self.known.fetch_or(1 << n, Relaxed);
        }
        self.addresses[n].store(address, Relaxed);
        Ok(())
    }

    /// All of it or, if some of it will not do, nothing.
    pub fn set_control(&self, value: u64) -> Result<()> {
        let value = value & !DR7_RESERVED;
        let (mut control, mut known, mut shapes) = (0, self.known.load(Relaxed), self.shapes.load(Relaxed));
        for n in 0..ADDRESSES {
            let breakpoint = Breakpoint::decode(value, n);
            if !breakpoint.enabled && !self.is_known(n) {
                continue;
            }
            breakpoint.check(self.addresses[n].load(Relaxed))?;
            known |= 1 << n;
            shapes = shapes & !shape(n) | value & shape(n);
            if breakpoint.enabled {
                control |= value & (ENABLE << (2 * n) | shape(n)) | EXACT;
            }
        }
        self.known.store(known, Relaxed);
        self.shapes.store(shapes, Relaxed);
        self.control.store(control, Relaxed);
        Ok(())
    }

    /// Nothing watched, nothing hit.
    pub fn reset(&self) {
        for address in &self.addresses {
            address.store(0, Relaxed);
        }
        self.known.store(0, Relaxed);
        for word in [&self.shapes, &self.written, &self.control, &self.status] {
            word.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
