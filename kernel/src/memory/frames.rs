//! Physical memory: frames of 4 KiB, each with a reference count.
//!
//! Free frames are linked through their own first word. Memory that was never handed out is not touched at all: it
//! stays in a short list of ranges, so that starting with a lot of memory takes no longer than with little.
//!
//! The last part of memory (`kernel_reserve`) is for the kernel's heap. Whatever a program can ask for without
//! limit (its pages, their tables, kernel stacks, file contents) stops before it, with ENOMEM.

use core::mem;
use core::num::NonZeroU64;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

use crate::errno::{Errno, Result};
use crate::machine::direct_map::{DIRECT_MAP, PAGE_SIZE, phys_to_virt};
use crate::machine::sync::SpinLock;
use crate::memory::layout::page_down;

/// More ranges than this are ignored; firmware reports a handful.
const MAX_RANGES: usize = 32;

/// The free frames.
struct Pool {
    /// Physical address of the first free frame, 0 at the end of the list.
    head: u64,
    /// Ranges that were never handed out.
    fresh: [Range<u64>; MAX_RANGES],
    /// The first of them that may have something left.
    first_fresh: usize,
    /// Free frames, in the list and in the ranges.
    free: usize,
    /// So many free frames are left to the kernel's heap.
    kernel_reserve: usize,
}

static POOL: SpinLock<Pool> =
    SpinLock::new(Pool { head: 0, fresh: [const { 0..0 }; MAX_RANGES], first_fresh: 0, free: 0, kernel_reserve: 0 });

/// The reference counts, one per frame from physical address 0.
static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// The frame of zeros that read faults on anonymous memory map.
static ZERO: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// One reference to a frame; the frame is free again when the last is dropped.
#[derive(Debug)]
pub struct Frame(NonZeroU64);

impl Frame {
    /// Its physical address.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.0.get()
    }

    /// Its contents, in the direct map.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        phys_to_virt(self.addr())
    }

    /// Gives the reference to whoever keeps the address, for example a page table.
    #[inline]
    pub fn into_raw(self) -> u64 {
        let addr = self.addr();
        mem::forget(self);
        addr
    }

    /// Takes back a reference that [`into_raw`](Self::into_raw) gave away.
    ///
    /// # Safety
    /// `addr` comes from `into_raw`, and each such reference is taken back at most once.
    #[inline]
    pub unsafe fn from_raw(addr: u64) -> Frame {
        debug_assert!(addr != 0);
        // SAFETY: frame 0 is never handed out.
        Frame(unsafe { NonZeroU64::new_unchecked(addr) })
    }

    /// True when this is the only reference. It stays true as long as the caller does not share it.
    #[inline]
    pub fn is_unique(&self) -> bool {
        count(self.addr()).load(Ordering::Acquire) == 1
    }

    /// Copies the contents of `from`.
    pub fn copy_from(&self, from: &Frame) {
        // SAFETY: both are whole frames in the direct map, kept alive by the references; this one is the caller's to
        // write. Where `from` is written at the same time by a program, the program gets what it races for.
        unsafe {
            core::arch::asm!(
                "rep movsq",
                inout("rcx") PAGE_SIZE / 8 => _, inout("rsi") from.as_ptr() => _, inout("rdi") self.as_ptr() => _,
                options(nostack, preserves_flags)
            );
        }
    }

    fn fill_with_zeros(&self) {
        // SAFETY: a whole frame in the direct map that nobody else refers to yet. Not `write_bytes`: the compiler
        // would call a `memset` that stores bytes.
        unsafe {
            core::arch::asm!(
                "rep stosq",
                inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") self.as_ptr() => _, in("rax") 0u64,
                options(nostack, preserves_flags)
            );
        }
    }
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Self {
        share_raw(self.addr())
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if count(self.addr()).fetch_sub(1, Ordering::Release) == 1 {
            // The other holders' accesses come before the frame's next use.
            fence(Ordering::Acquire);
            POOL.lock().push(self.addr());
        }
    }
}

/// A further reference to the frame at `addr`, which somebody holds by its raw address.
#[inline]
pub(super) fn share_raw(addr: u64) -> Frame {
    count(addr).fetch_add(1, Ordering::Relaxed);
    // SAFETY: this is the reference that was counted just now.
    unsafe { Frame::from_raw(addr) }
}

#[inline]
fn count(addr: u64) -> &'static AtomicU32 {
    // SAFETY: `init` made the array as long as the highest frame needs; every address here comes from the pool.
    unsafe { &*COUNTS.load(Ordering::Relaxed).add((addr / PAGE_SIZE) as usize) }
}

impl Pool {
    fn push(&mut self, addr: u64) {
        // SAFETY: the last reference is gone, so the frame's contents are ours.
        unsafe { phys_to_virt(addr).cast::<u64>().write(self.head) };
        self.head = addr;
        self.free += 1;
    }

    /// A free frame, as long as more than `keep` are free.
    #[inline]
    fn pop(&mut self, keep: usize) -> Option<u64> {
        if self.free <= keep {
            return None;
        }
        self.free -= 1;
        let addr = self.head;
        if addr != 0 {
            // SAFETY: `push` stored the link there.
            self.head = unsafe { phys_to_virt(addr).cast::<u64>().read() };
            return Some(addr);
        }
        while let Some(range) = self.fresh.get_mut(self.first_fresh) {
            if !range.is_empty() {
                range.start += PAGE_SIZE;
                return Some(range.start - PAGE_SIZE);
            }
            self.first_fresh += 1;
        }
        None
    }

    /// Takes memory that was never used out of the pool for good, at a multiple of two pages.
    fn set_aside(&mut self, bytes: u64) -> Range<u64> {
        if bytes == 0 {
            return 0..0;
        }
        let room = bytes + PAGE_SIZE;
        let range = (self.fresh.iter_mut()).find(|range| range.end - range.start >= room).expect("memory in one piece");
        range.end -= room;
        self.free -= (room / PAGE_SIZE) as usize;
        let start = range.end.next_multiple_of(2 * PAGE_SIZE);
        start..start + bytes
    }

    /// Adds memory that was never used, but for the parts of it in `reserved`.
    fn add(&mut self, range: Range<u64>, reserved: &[Range<u64>]) {
        let range = range.start.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE)..page_down(range.end);
        if range.is_empty() {
            return;
        }
        if let Some(hole) = reserved.iter().find(|r| r.start < range.end && range.start < r.end) {
            self.add(range.start..hole.start.max(range.start), reserved);
            self.add(hole.end.min(range.end)..range.end, reserved);
        } else if let Some(slot) = self.fresh.iter_mut().find(|slot| slot.is_empty()) {
            self.free += ((range.end - range.start) / PAGE_SIZE) as usize;
            *slot = range;
        }
    }
}

/// Takes over physical memory: the usable ranges of `map` without `reserved` (the kernel's image, the initramfs, boot
/// data). All of `map` must be in the direct map. Called once, before anything allocates. What `share` says of so many bytes is
/// set aside, and returned.
pub fn init(map: &[Range<u64>], reserved: &[Range<u64>], share: fn(u64) -> u64) -> Range<u64> {
    let mut pool = POOL.lock();
    for range in map {
        pool.add(range.clone(), reserved);
    }
    TOTAL.store(pool.free, Ordering::Relaxed);
    pool.kernel_reserve = (pool.free / 32).min((4 << 20) / PAGE_SIZE as usize);

    let end = pool.fresh.iter().map(|range| range.end).max().unwrap_or(0);
    let bytes = (end / PAGE_SIZE * size_of::<AtomicU32>() as u64).next_multiple_of(PAGE_SIZE);
    let range = (pool.fresh.iter_mut())
        .find(|range| range.end - range.start >= bytes)
        .expect("no memory for the frames' reference counts");
    let counts = phys_to_virt(range.start);
    range.start += bytes;
    pool.free -= (bytes / PAGE_SIZE) as usize;
    let set_aside = share(pool.free as u64 * PAGE_SIZE);
    let set_aside = pool.set_aside(set_aside);
    drop(pool);
    // SAFETY: memory taken from the pool just now, in the direct map.
    unsafe { ptr::write_bytes(counts, 0, bytes as usize) };
    COUNTS.store(counts.cast(), Ordering::Release);
    let zero = alloc_zeroed().expect("no memory for the frame of zeros");
    ZERO.store(phys_to_virt(zero.into_raw()), Ordering::Release);
    set_aside
}

#[inline]
fn take(keep_reserve: bool) -> Result<Frame> {
    let mut pool = POOL.lock();
    let keep = if keep_reserve { pool.kernel_reserve } else { 0 };
    let addr = pool.pop(keep).ok_or(Errno::ENOMEM)?;
    drop(pool);
    count(addr).store(1, Ordering::Relaxed);
    // SAFETY: the one reference to a frame that was free.
    Ok(unsafe { Frame::from_raw(addr) })
}

/// A frame with arbitrary contents. ENOMEM when only the kernel's reserve is left.
#[inline]
pub fn alloc() -> Result<Frame> {
    take(true)
}

/// A frame of zeros. ENOMEM when only the kernel's reserve is left.
#[inline]
pub fn alloc_zeroed() -> Result<Frame> {
    let frame = take(true)?;
    frame.fill_with_zeros();
    Ok(frame)
}

/// A frame of zeros for the kernel itself, from the reserve if need be.
pub(super) fn alloc_reserve() -> Result<Frame> {
    let frame = take(false)?;
    frame.fill_with_zeros();
    Ok(frame)
}

/// ENOMEM when only the kernel's reserve is left. For operations that take kernel memory in small pieces (a mapping,
/// a process, a file name), before they begin: the heap itself cannot fail gracefully.
pub fn require_spare() -> Result<()> {
    let pool = POOL.lock();
    if pool.free > pool.kernel_reserve { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// ENOMEM unless so much is free besides the kernel's reserve. For operations whose arguments say how much kernel memory
/// they take, before they take it.
pub fn require(bytes: u64) -> Result<()> {
    let pool = POOL.lock();
    let spare = (pool.free as u64).saturating_sub(pool.kernel_reserve as u64);
    if bytes.div_ceil(PAGE_SIZE) < spare { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Address of the frame of zeros.
#[inline]
pub(super) fn zero_frame() -> u64 {
    ZERO.load(Ordering::Relaxed) as u64 - DIRECT_MAP
}

/// Memory that is free.
pub fn free_bytes() -> u64 {
    POOL.lock().free as u64 * PAGE_SIZE
}

/// Memory that the pool began with.
pub fn total_bytes() -> u64 {
    TOTAL.load(Ordering::Relaxed) as u64 * PAGE_SIZE
}

#[cfg(test)]
mod tests;
