//! The page tables of one address space.
//!
//! A leaf entry is 0, or holds a reference to a frame: PRESENT where the program may touch it, [`HELD`] where it may not
//! (PROT_NONE). WRITABLE on a private page means that the frame is this address space's alone. Accessed and dirty bits
//! are set from the start: nothing reads them, and so the CPU never writes to an entry behind the kernel's back.
//! All changes happen under the lock of the address space.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use x86_64::structures::paging::PageTableFlags as Flags;

use crate::errno::Result;
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::frames::Frame;
use crate::memory::isolation::user_pgd;
use crate::memory::pgd::Pgd;
use crate::memory::table::{KERNEL_TABLE, Table, address, span};
use crate::memory::vma::Prot;
use crate::memory::{frames, isolation, tlb, vmalloc};

/// Software bit of a leaf entry that holds a frame that may not be touched.
pub const HELD: u64 = Flags::BIT_9.bits();
/// The protection key of a leaf entry.
const KEY_SHIFT: u32 = 59;
const KEY: u64 = 0xf << KEY_SHIFT;
const USER_TABLE: u64 = KERNEL_TABLE.union(Flags::USER_ACCESSIBLE).bits();
/// The entries of the PML4 that are the user's.
const USER_ENTRIES: Range<usize> = 0..256;

/// True when a program may write through this entry.
#[inline]
pub fn is_writable(entry: u64) -> bool {
    entry & Flags::WRITABLE.bits() != 0
}

/// True when a program may read through this entry.
#[inline]
pub fn is_present(entry: u64) -> bool {
    entry & Flags::PRESENT.bits() != 0
}

/// A leaf entry that holds the frame at `addr`. `writable` is whether writes need no fault; `prot` must allow them too.
#[inline]
pub fn leaf(addr: u64, prot: Prot, writable: bool) -> u64 {
    if prot.rights().is_empty() {
        return addr | HELD;
    }
    let mut flags = Flags::PRESENT | Flags::USER_ACCESSIBLE | Flags::ACCESSED | Flags::DIRTY;
    flags.set(Flags::WRITABLE, writable && prot.contains(Prot::WRITE));
    flags.set(Flags::NO_EXECUTE, !prot.contains(Prot::EXEC));
    addr | flags.bits() | u64::from(prot.key()) << KEY_SHIFT
}

/// Makes `entry` the one for `addr` in the top-level table at `pgd`, and in the user's, if that is another one. Gives the old
/// one.
fn set_top(pgd: u64, addr: u64, entry: u64) -> u64 {
    if isolation::ON {
        Table::at(user_pgd(pgd)).entry(3, addr).store(entry, Relaxed);
    }
    Table::at(pgd).entry(3, addr).swap(entry, Relaxed)
}

/// The tables of one address space.
pub struct PageTables {
    pgd: Pgd,
    /// How many leaf entries hold a frame, and the most that did when some were taken out. Written with the address space
    /// locked.
    resident: AtomicU64,
    peak: AtomicU64,
}

impl PageTables {
    /// Tables with the kernel's half and an empty user half.
    pub fn new() -> Result<PageTables> {
        let pgd = Pgd::new()?;
        copy_kernel_half(vmalloc::kernel_pgd(), pgd.addr());
        if isolation::ON {
            copy_kernel_half(user_pgd(vmalloc::kernel_pgd()), user_pgd(pgd.addr()));
        }
        Ok(PageTables { pgd, resident: AtomicU64::new(0), peak: AtomicU64::new(0) })
    }

    /// Physical address of the PML4.
    #[inline]
    pub fn pgd(&self) -> u64 {
        self.pgd.addr()
    }

    /// The page table that covers `addr`; else the number of bytes, naturally aligned, that have none.
    #[inline]
    fn leaf_table(&self, addr: u64) -> core::result::Result<Table, u64> {
        let table = Table::at(self.pgd());
        let table = table.child(3, addr).ok_or(span(3))?;
        let table = table.child(2, addr).ok_or(span(2))?;
        table.child(1, addr).ok_or(span(1))
    }

    /// The leaf entry for `addr`, if there is a table for it.
    #[inline]
    pub fn lookup(&self, addr: u64) -> Option<&'static AtomicU64> {
        Some(self.leaf_table(addr).ok()?.entry(0, addr))
    }

    /// The leaf entry for `addr`; tables are made as needed.
    #[inline]
    pub fn lookup_or_create(&self, addr: u64) -> Result<&'static AtomicU64> {
        match self.lookup(addr) {
            Some(entry) => Ok(entry),
            None => self.create(addr),
        }
    }

    #[cold]
    fn create(&self, addr: u64) -> Result<&'static AtomicU64> {
        let mut table = Table::at(self.pgd());
        for level in [3, 2, 1] {
            let entry = table.entry(level, addr);
            if entry.load(Relaxed) == 0 {
                let new = frames::alloc_zeroed()?.into_raw() | USER_TABLE;
                if level == 3 {
                    set_top(self.pgd(), addr, new);
                } else {
                    entry.store(new, Relaxed);
                }
            }
            table = Table::at(address(entry.load(Relaxed)));
        }
        Ok(table.entry(0, addr))
    }

    /// Puts a frame into an empty leaf entry.
    #[inline]
    pub fn install(&self, entry: &AtomicU64, leaf: u64) {
        entry.store(leaf, Relaxed);
        self.resident.store(self.resident.load(Relaxed) + 1, Relaxed);
    }

    /// `count` leaf entries are empty now.
    fn removed(&self, count: u64) {
        let before = self.resident.load(Relaxed);
        self.peak.fetch_max(before, Relaxed);
        self.resident.store(before.saturating_sub(count), Relaxed);
    }

    /// The most bytes that were ever present at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Relaxed).max(self.resident.load(Relaxed)) * PAGE_SIZE
    }

    /// Calls `f` with each leaf entry of `range` that holds a frame.
    pub fn for_each(&self, range: Range<u64>, mut f: impl FnMut(u64, &AtomicU64)) {
        let mut addr = range.start;
        while addr < range.end {
            let table = match self.leaf_table(addr) {
                Ok(table) => table,
                Err(span) => {
                    addr = (addr & !(span - 1)) + span;
                    continue;
                }
            };
            let end = range.end.min((addr & !(span(1) - 1)) + span(1));
            while addr < end {
                let entry = table.entry(0, addr);
                if entry.load(Relaxed) != 0 {
                    f(addr, entry);
                }
                addr += PAGE_SIZE;
            }
        }
    }

    /// Takes every frame out of `range`, and frees them once no CPU has a translation left. Tables go too where they
    /// lie within `unused`, the mapped-by-nobody range around `range`.
    pub fn clear(&self, range: Range<u64>, unused: Range<u64>) {
        let mut gather = Gather::new(self.pgd());
        let mut removed = 0;
        self.for_each(range.clone(), |addr, entry| {
            let old = entry.swap(0, Relaxed);
            gather.push(addr, address(old), is_present(old));
            removed += 1;
        });
        self.removed(removed);
        prune(Table::at(self.pgd()), 3, 0, &range, &unused, &mut gather);
    }

    /// Takes the frames that `gone` chooses, given address and frame, out of `range`, and frees them once no CPU has a
    /// translation left.
    pub fn clear_if(&self, range: Range<u64>, mut gone: impl FnMut(u64, u64) -> bool) {
        let mut gather = Gather::new(self.pgd());
        let mut removed = 0;
        self.for_each(range, |addr, entry| {
            let old = entry.load(Relaxed);
            if gone(addr, address(old)) {
                entry.store(0, Relaxed);
                gather.push(addr, address(old), is_present(old));
                removed += 1;
            }
        });
        self.removed(removed);
    }

    /// Gives the pages of `range` the protection `prot`. Private pages never become writable by this: a write fault
    /// finds out whether the frame is shared.
    pub fn protect(&self, range: Range<u64>, prot: Prot, shared: bool) {
        let mut flush = Touched::default();
        self.for_each(range, |addr, entry| {
            let old = entry.load(Relaxed);
            let new = leaf(address(old), prot, shared || is_writable(old));
            entry.store(new, Relaxed);
            let lost = old & !new & (Flags::PRESENT | Flags::WRITABLE).bits();
            let gained = !old & new & Flags::NO_EXECUTE.bits();
            let other_key = (old ^ new) & KEY;
            if is_present(old) && lost | gained | other_key != 0 {
                flush.add(addr);
            }
        });
        flush.flush(self.pgd());
    }

    /// Maps what `self` maps in `range` in `child` as well. Private pages become read-only in both.
    pub fn copy_to(&self, child: &PageTables, range: Range<u64>) -> Result<()> {
        let mut flush = Touched::default();
        let mut result = Ok(());
        self.for_each(range, |addr, entry| {
            if result.is_err() {
                return;
            }
            match child.lookup_or_create(addr) {
                Ok(copy) => {
                    let old = entry.load(Relaxed);
                    let new = old & !Flags::WRITABLE.bits();
                    if new != old {
                        entry.store(new, Relaxed);
                        flush.add(addr);
                    }
                    frames::share_raw(address(old)).into_raw();
                    child.install(copy, new);
                }
                Err(errno) => result = Err(errno),
            }
        });
        flush.flush(self.pgd());
        result
    }

    /// Moves the pages of `from` to `to` (`mremap`), which is as long and has none. After ENOMEM nothing has moved.
    pub fn move_to(&self, from: Range<u64>, to: u64) -> Result<()> {
        let mut result = Ok(());
        self.for_each(from.clone(), |addr, _| {
            if result.is_ok() {
                result = self.lookup_or_create(addr - from.start + to).map(|_| ());
            }
        });
        result?;
        let mut flush = Touched::default();
        self.for_each(from.clone(), |addr, entry| {
            if let Some(target) = self.lookup(addr - from.start + to) {
                target.store(entry.swap(0, Relaxed), Relaxed);
                flush.add(addr);
            }
        });
        flush.flush(self.pgd());
        Ok(())
    }
}

impl Drop for PageTables {
    fn drop(&mut self) {
        tlb::leave(self.pgd());
        for index in USER_ENTRIES {
            free_subtree(&Table::at(self.pgd()).0[index], 3);
        }
    }
}

/// Copies what the top-level table at `from` maps of the kernel to the one at `to`.
fn copy_kernel_half(from: u64, to: u64) {
    let (from, to) = (Table::at(from), Table::at(to));
    for index in USER_ENTRIES.end..512 {
        to.0[index].store(from.0[index].load(Relaxed), Relaxed);
    }
}

/// Frees what the entry of a table of `level` holds: tables and frames that no CPU uses any more.
fn free_subtree(entry: &AtomicU64, level: u32) {
    let old = entry.swap(0, Relaxed);
    if old == 0 {
        return;
    }
    if level > 0 {
        for child in Table::at(address(old)).0 {
            free_subtree(child, level - 1);
        }
    }
    // SAFETY: the entry held a reference.
    drop(unsafe { Frame::from_raw(address(old)) });
}

/// Takes out the tables under `table` that touch `range` and lie within `unused`, where no leaf entry is left.
/// `base` is the first address that `table`, of `level`, covers.
fn prune(table: Table, level: u32, base: u64, range: &Range<u64>, unused: &Range<u64>, gather: &mut Gather) {
    let span = span(level);
    let mut start = base.max(range.start & !(span - 1));
    let end = range.end.min(base + span * if level == 3 { 256 } else { 512 });
    while start < end {
        if let Some(child) = table.child(level, start) {
            if level > 1 {
                prune(child, level - 1, start, range, unused, gather);
            }
            if unused.start <= start && start + span <= unused.end {
                let old =
                    if level == 3 { set_top(gather.pgd, start, 0) } else { table.entry(level, start).swap(0, Relaxed) };
                gather.push(start, address(old), true);
            }
        }
        start += span;
    }
}

/// The addresses whose translations have to go.
#[derive(Default)]
struct Touched {
    range: Range<u64>,
}

impl Touched {
    fn add(&mut self, addr: u64) {
        if self.range.is_empty() {
            self.range = addr..addr + PAGE_SIZE;
        } else {
            self.range = self.range.start.min(addr)..self.range.end.max(addr + PAGE_SIZE);
        }
    }

    fn flush(&mut self, pgd: u64) {
        if !self.range.is_empty() {
            tlb::flush(pgd, self.range.clone());
            self.range = 0..0;
        }
    }
}

/// Frames on their way out: they are freed only after the shootdown, a batch at a time.
struct Gather {
    pgd: u64,
    touched: Touched,
    frames: [u64; 64],
    len: usize,
}

impl Gather {
    fn new(pgd: u64) -> Gather {
        Gather { pgd, touched: Touched::default(), frames: [0; 64], len: 0 }
    }

    fn push(&mut self, addr: u64, frame: u64, flush: bool) {
        if self.len == self.frames.len() {
            self.finish();
        }
        if flush {
            self.touched.add(addr);
        }
        self.frames[self.len] = frame;
        self.len += 1;
    }

    fn finish(&mut self) {
        self.touched.flush(self.pgd);
        for &frame in &self.frames[..self.len] {
            // SAFETY: `push` got the reference of an entry that is gone, and now so are its translations.
            drop(unsafe { Frame::from_raw(frame) });
        }
        self.len = 0;
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
