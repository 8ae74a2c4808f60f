//! A ring of boundary events per CPU: what crossed, when, and what work ran.
//!
//! The gate reports each event to the kernel (`portcullis::Diagnostics::trace`), whose default is empty. The kernel places the
//! rings, and pushes what it wants to keep. [`Ring::push`] takes no lock, so it may be called in an NMI handler; a reader on
//! another CPU gets whole records. New records overwrite old ones, except that a writer whose slot is still being filled, by the
//! writer that it interrupted, drops its record.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::*, fence};

use portcullis::trace::Event;

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The kernel's clock.
    pub time: u64,
    /// What happened.
    pub event: Event,
    /// The task that it happened to, by the kernel's number.
    pub task: u32,
    /// What the event says.
    pub value: u64,
}

/// One CPU's records, the newest `N`.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    /// How many records have been begun.
    begun: AtomicU64,
    slots: [Slot; N],
}

#[derive(Debug)]
struct Slot {
    /// The number of the record in it, from 1; 0 before the first, [`UNFINISHED`] while it is being written.
    number: AtomicU64,
    time: AtomicU64,
    /// Event and task.
    what: AtomicU64,
    value: AtomicU64,
}

/// No record has this number.
const UNFINISHED: u64 = u64::MAX;

impl<const N: usize> Ring<N> {
    /// Empty.
    pub const fn new() -> Self {
        Ring {
            begun: AtomicU64::new(0),
            slots: [const {
                Slot {
                    number: AtomicU64::new(0),
                    time: AtomicU64::new(0),
                    what: AtomicU64::new(0),
                    value: AtomicU64::new(0),
                }
            }; N],
        }
    }

    /// Adds a record. To be called on the CPU that the ring belongs to, in any context.
    #[inline]
    pub fn push(&self, record: Record) {
        if let Some((slot, number)) = self.begin() {
            slot.finish(number, record);
        }
    }

    /// Takes the next slot, unless the writer that this one interrupted is still filling it.
    #[inline(always)]
    fn begin(&self) -> Option<(&Slot, u64)> {
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        let slot = self.slots.get(number as usize % N.max(1))?;
        if slot.number.load(Relaxed) == UNFINISHED {
            return None;
        }
        slot.number.store(UNFINISHED, Relaxed);
        // A reader that sees any of the stores that follow also sees the slot unfinished.
        fence(Release);
        Some((slot, number))
    }

    /// How many records have been begun, dropped ones included.
    pub fn count(&self) -> u64 {
        self.begun.load(Acquire)
    }

    /// The record with this number, from 1; `None` if it is overwritten, dropped or not written yet.
    pub fn get(&self, number: u64) -> Option<Record> {
        let slot = self.slots.get(number as usize % N.max(1))?;
        if number == 0 || slot.number.load(Acquire) != number {
            return None;
        }
        let (time, what) = (slot.time.load(Relaxed), slot.what.load(Relaxed));
        let value = slot.value.load(Relaxed);
        fence(Acquire);
        if slot.number.load(Relaxed) != number {
            return None;
        }
        Some(Record { time, event: *Event::ALL.get((what >> 32) as usize)?, task: what as u32, value })
    }

    /// The records that the ring holds, from number `first` on, oldest first.
    pub fn since(&self, first: u64) -> impl Iterator<Item = (u64, Record)> {
        let end = self.count();
        let start = first.max(1).max((end + 1).saturating_sub(N as u64));
        (start..=end).filter_map(|number| Some((number, self.get(number)?)))
    }
}

impl Slot {
    #[inline(always)]
    fn finish(&self, number: u64, record: Record) {
        self.time.store(record.time, Relaxed);
        let what = (record.event as u64) << 32 | u64::from(record.task);
        self.what.store(what, Relaxed);
        self.value.store(record.value, Relaxed);
        self.number.store(number, Release);
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "../tests/unit/ring.rs"]
mod tests;
