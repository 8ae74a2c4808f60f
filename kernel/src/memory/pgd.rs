//! The top-level tables of address spaces: one frame, or with page-table isolation two adjacent ones, the kernel's and the
//! user's behind it. Pairs come from memory that is set aside at boot, as the frame allocator has single frames only.

use core::ops::Range;

use portcullis::x86_64::isolation::USER_TABLE;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::{PAGE_SIZE, phys_to_virt};
use crate::machine::sync::SpinLock;
use crate::memory::frames;
use crate::memory::frames::Frame;
use crate::memory::isolation::ON;

const PAIR: u64 = 2 * PAGE_SIZE;
const _: () = assert!(USER_TABLE == PAGE_SIZE);

/// The pairs that nobody has.
struct Pairs {
    /// Physical address of the first free pair, 0 at the end of the list. The link is in the pair's first word.
    free: u64,
    /// Those that were never handed out.
    fresh: Range<u64>,
}

static PAIRS: SpinLock<Pairs> = SpinLock::new(Pairs { free: 0, fresh: 0..0 });

/// How much of `bytes` of memory is to be set aside for pairs.
pub fn share(bytes: u64) -> u64 {
    if ON { bytes / 32 / PAIR * PAIR } else { 0 }
}

/// Takes over memory for pairs, in the direct map and at a multiple of a pair's size.
pub fn init(memory: Range<u64>) {
    assert!(memory.start.is_multiple_of(PAIR));
    PAIRS.lock().fresh = memory;
}

/// The top-level tables of one address space.
pub struct Pgd(u64);

impl Pgd {
    /// Zeroes. ENOMEM when memory runs short.
    pub fn new() -> Result<Pgd> {
        if !ON {
            return Ok(Pgd(frames::alloc_zeroed()?.into_raw()));
        }
        let mut pairs = PAIRS.lock();
        let addr = if pairs.free != 0 {
            let addr = pairs.free;
            // SAFETY: `drop` stored the link there, and nobody uses a free pair.
            pairs.free = unsafe { phys_to_virt(addr).cast::<u64>().read() };
            addr
        } else if pairs.fresh.start + PAIR <= pairs.fresh.end {
            pairs.fresh.start += PAIR;
            pairs.fresh.start - PAIR
        } else {
            return Err(Errno::ENOMEM);
        };
        drop(pairs);
        // SAFETY: the pair is this one's now.
        unsafe { phys_to_virt(addr).write_bytes(0, PAIR as usize) };
        Ok(Pgd(addr))
    }

    /// Physical address of the kernel's.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.0
    }
}

impl Drop for Pgd {
    fn drop(&mut self) {
        if !ON {
            // SAFETY: the reference that `new` got.
            return drop(unsafe { Frame::from_raw(self.0) });
        }
        let mut pairs = PAIRS.lock();
        // SAFETY: no CPU uses these tables any more, as their owner vouches by dropping them.
        unsafe { phys_to_virt(self.0).cast::<u64>().write(pairs.free) };
        pairs.free = self.0;
    }
}
