//! Concurrency ids: small numbers for the threads of one address space that run at the same time (Linux: `mm_cid`).
//!
//! A thread has one while it is on a CPU, from its way out to user mode until it is switched out. It gets the lowest that is
//! free, so that all are below the number of such threads, and below the number of CPUs.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::machine::cpu::MAX_CPUS;

/// Those that are taken.
#[derive(Default)]
pub struct ConcurrencyIds(AtomicU32);

const _: () = assert!(MAX_CPUS <= u32::BITS as usize);

impl ConcurrencyIds {
    /// Takes the lowest that is free, for a thread that stays on its CPU until it gives it back.
    pub fn take(&self) -> u32 {
        let mut taken = self.0.load(Relaxed);
        loop {
            let free = taken.trailing_ones();
            debug_assert!(free < MAX_CPUS as u32, "more threads run than there are CPUs");
            match self.0.compare_exchange_weak(taken, taken | 1 << free, Relaxed, Relaxed) {
                Ok(_) => return free,
                Err(now) => taken = now,
            }
        }
    }

    /// Gives one back.
    pub fn give_back(&self, id: u32) {
        let before = self.0.fetch_and(!(1 << id), Relaxed);
        debug_assert!(before & 1 << id != 0, "a concurrency id that was not taken");
    }
}

#[cfg(test)]
mod tests;
