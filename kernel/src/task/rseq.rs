//! A task's registration for restartable sequences, and the layout of the area that it registers (`struct rseq`, Linux 7.2).

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::sched::slice_timer::SliceTimer;

/// Where the area's fields are.
pub mod field {
    /// The CPU; some CPU's number while no area is registered.
    pub const CPU_ID_START: u64 = 0;
    /// The CPU; [`NO_CPU`](super::NO_CPU) while no area is registered.
    pub const CPU_ID: u64 = 4;
    /// The address of the sequence that the thread is in, or 0.
    pub const SEQUENCE: u64 = 8;
    /// What the kernel offers.
    pub const FLAGS: u64 = 16;
    /// The NUMA node.
    pub const NODE_ID: u64 = 20;
    /// The concurrency id.
    pub const MM_CID: u64 = 24;
    /// What the program asks for and gets of the extension of its time slice. In an area of the original size programs may
    /// have something of their own there.
    pub const SLICE_CTRL: u64 = 28;
}

/// The area's flags.
pub mod flag {
    /// Extensions of the slice can be enabled.
    pub const SLICE_EXT_AVAILABLE: u32 = 1 << 4;
    /// They are.
    pub const SLICE_EXT_ENABLED: u32 = 1 << 5;
}

/// The area as it was before it could grow, padding included.
pub const ORIGINAL_SIZE: u32 = 32;
/// Up to the end of the last field (AT_RSEQ_FEATURE_SIZE). The last one is a reserved byte: so that this is more than the
/// original size, which had no field behind `flags`.
pub const FEATURE_SIZE: u32 = 33;
/// What an area of the feature size is aligned to (AT_RSEQ_ALIGN).
pub const ALIGN: u32 = FEATURE_SIZE.next_power_of_two();

/// `RSEQ_CPU_ID_UNINITIALIZED`.
pub const NO_CPU: u32 = u32::MAX;

/// Whether an area may be there and have that length.
pub fn is_valid_length(area: u64, len: u32) -> bool {
    match len {
        ORIGINAL_SIZE => area.is_multiple_of(ORIGINAL_SIZE.into()),
        FEATURE_SIZE.. => area.is_multiple_of(ALIGN.into()),
        _ => false,
    }
}

/// What an area shows beside the NUMA node, of which there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    pub cpu: u32,
    pub concurrency_id: u32,
}

impl Ids {
    /// What a new area shows.
    pub const NONE: Ids = Ids { cpu: NO_CPU, concurrency_id: 0 };
}

/// What a task keeps.
pub struct TaskRseq {
    /// The address of the area; 0 while there is none.
    pub area: AtomicU64,
    /// Its length.
    pub len: AtomicU32,
    /// What stands before each abort handler, so that no other address can be made one.
    pub signature: AtomicU32,
    /// What the area was last made to show.
    shown: AtomicU64,
    /// The concurrency id that the task has while it is on its CPU, or [`NO_ID`](Self::NO_ID).
    pub concurrency_id: AtomicU32,
    /// The hook after the loop met memory that is not mapped.
    pub needs_faults: AtomicBool,
    /// The extension of its time slice.
    pub slice: TaskSlice,
}

impl TaskRseq {
    /// No concurrency id.
    pub const NO_ID: u32 = u32::MAX;

    /// No area.
    pub fn new() -> Self {
        let none = TaskRseq {
            area: AtomicU64::new(0),
            len: AtomicU32::new(0),
            signature: AtomicU32::new(0),
            shown: AtomicU64::new(0),
            concurrency_id: AtomicU32::new(Self::NO_ID),
            needs_faults: AtomicBool::new(false),
            slice: TaskSlice::default(),
        };
        none.set_shown(Ids::NONE);
        none
    }

    /// The area's address and length, 0 while there is none, and the signature.
    pub fn registration(&self) -> (u64, u32, u32) {
        (self.area.load(Relaxed), self.len.load(Relaxed), self.signature.load(Relaxed))
    }

    /// Sets them. The area shows no CPU.
    pub fn set_registration(&self, area: u64, len: u32, signature: u32) {
        self.set_shown(Ids::NONE);
        self.needs_faults.store(false, Relaxed);
        self.len.store(len, Relaxed);
        self.signature.store(signature, Relaxed);
        self.area.store(area, Relaxed);
    }

    /// Whether the area is longer than the original one. Then the kernel alone writes what it shows, and does so where it
    /// changes; in an area of the original size it is written after each switch, as programs rely on (`RSEQ_ABI_V2` in Linux).
    pub fn is_extended(&self) -> bool {
        self.len.load(Relaxed) > ORIGINAL_SIZE
    }

    /// What the area was last made to show.
    pub fn shown(&self) -> Ids {
        let shown = self.shown.load(Relaxed);
        Ids { cpu: shown as u32, concurrency_id: (shown >> 32) as u32 }
    }

    /// The area has been made to show this.
    pub fn set_shown(&self, ids: Ids) {
        self.shown.store(u64::from(ids.cpu) | u64::from(ids.concurrency_id) << 32, Relaxed);
    }
}

/// What a task keeps of the extension of its time slice.
#[derive(Default)]
pub struct TaskSlice {
    /// It may ask for one.
    pub enabled: AtomicBool,
    /// It has one, until `expires`.
    pub granted: AtomicBool,
    /// When it ends (`time::now`).
    pub expires: AtomicU64,
    /// Ends it.
    pub timer: SliceTimer,
    /// The call under way has ended it, and is rseq_slice_yield.
    pub yielded: AtomicBool,
}

impl Default for TaskRseq {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
