//! The set of areas that an address space has mapped: pure bookkeeping, page tables are elsewhere.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use bitflags::bitflags;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::backing::Backing;
use crate::memory::layout::{MMAP_MIN_ADDR, USER_END};
use crate::memory::shared::SharedMemory;

bitflags! {
    /// What a program may do with a page (`PROT_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u32 {
        /// It may read.
        const READ = 1;
        /// It may write; on x86 it may read, too.
        const WRITE = 2;
        /// It may execute; on x86 it may read, too.
        const EXEC = 4;
        /// The bits of the protection key. Not the ABI's.
        const KEY = 0xf << 8;
    }

    /// Properties of an area beside its protection.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AreaFlags: u32 {
        /// It grows downwards when the page below it is touched (the stack).
        const GROWS_DOWN = 1;
        /// A child does not get it (`MADV_DONTFORK`).
        const DONT_FORK = 2;
        /// A child gets it empty (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 4;
        /// The stack of the program's first thread, for `/proc/PID/maps`.
        const STACK = 8;
        /// The area of `brk`, for `/proc/PID/maps`.
        const HEAP = 16;
        /// Its pages are to be present (`mlock`): it is populated when it grows.
        const LOCKED = 32;
        /// The vDSO's image: where it is matters to the kernel.
        const VDSO = 64;
        /// Not memory of the program's (VM_IO, VM_PFNMAP): nobody but the program itself accesses it.
        const IO = 128;
    }
}

impl Prot {
    /// From the ABI's bits, ignoring others.
    pub fn from_abi(bits: u32) -> Prot {
        Prot::from_bits_truncate(bits).rights()
    }

    /// Without the key.
    #[inline]
    pub fn rights(self) -> Prot {
        self.difference(Prot::KEY)
    }

    /// The protection key.
    #[inline]
    pub fn key(self) -> u32 {
        self.intersection(Prot::KEY).bits() >> 8
    }

    /// With another key, below 16.
    pub fn with_key(self, key: u32) -> Prot {
        self.rights() | Prot::from_bits_truncate(key << 8 & Prot::KEY.bits())
    }
}

/// Where the pages of an area come from.
#[derive(Clone)]
pub enum Source {
    /// Zeros, private to the address space.
    Anonymous,
    /// Memory shared by every address space that inherited it; `first` is the area's first page in it.
    Shared {
        /// The memory.
        memory: Arc<SharedMemory>,
        /// Index of the page at the area's start.
        first: u64,
    },
    /// A file; written pages are copied unless `shared`.
    File {
        /// The file.
        file: Arc<dyn Backing>,
        /// Index of the page at the area's start.
        first: u64,
        /// MAP_SHARED.
        shared: bool,
    },
}

/// One area: consecutive pages with one protection and one source.
#[derive(Clone)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// What the program may do.
    pub prot: Prot,
    /// What `mprotect` may allow at most.
    pub max_prot: Prot,
    /// Properties.
    pub flags: AreaFlags,
    /// Where its pages come from.
    pub source: Source,
}

impl Area {
    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// True when writes reach everybody who maps the same.
    pub fn is_shared(&self) -> bool {
        matches!(self.source, Source::Shared { .. } | Source::File { shared: true, .. })
    }

    /// True when a debugger may write here although the program may not: it gets a private copy, as the program could
    /// after an mprotect(2).
    pub fn may_force_write(&self) -> bool {
        !self.is_shared() && self.max_prot.contains(Prot::WRITE)
    }

    /// Index of the page at `addr` in the source.
    pub fn page_index(&self, addr: u64) -> u64 {
        let pages = (addr - self.start) / PAGE_SIZE;
        match self.source {
            Source::Anonymous => addr / PAGE_SIZE,
            Source::Shared { first, .. } | Source::File { first, .. } => first + pages,
        }
    }

    /// Lowest address that new mappings below should keep clear of: the stack has a guard gap.
    fn guarded_start(&self) -> u64 {
        if self.flags.contains(AreaFlags::GROWS_DOWN) { self.start.saturating_sub(STACK_GUARD_GAP) } else { self.start }
    }

    /// Cuts it in two; `self` keeps what is below `addr`.
    fn split_off(&mut self, addr: u64) -> Area {
        let mut upper = self.clone();
        let index = self.page_index(addr);
        match &mut upper.source {
            Source::Anonymous => (),
            Source::Shared { first, .. } | Source::File { first, .. } => *first = index,
        }
        upper.start = addr;
        self.end = addr;
        upper
    }

    /// True when `next`, which begins where `self` ends, continues it in every respect.
    fn continues_in(&self, next: &Area) -> bool {
        let same = match (&self.source, &next.source) {
            (Source::Anonymous, Source::Anonymous) => true,
            (Source::Shared { memory: a, .. }, Source::Shared { memory: b, .. }) => Arc::ptr_eq(a, b),
            (Source::File { file: a, shared: x, .. }, Source::File { file: b, shared: y, .. }) => {
                x == y && Arc::ptr_eq(a, b)
            }
            _ => false,
        };
        same && self.end == next.start
            && self.page_index(self.end) == next.page_index(next.start)
            && (self.prot, self.max_prot, self.flags) == (next.prot, next.max_prot, next.flags)
    }
}

/// Mappings keep so far from the stack.
pub const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;
/// Most areas of an address space (Linux's `vm.max_map_count`).
const MAX_AREAS: usize = 65530;

/// A private anonymous area that was looked up last: what most page faults are about.
#[derive(Clone, Copy)]
pub struct Recent {
    start: u64,
    end: u64,
    /// The protection of the area.
    pub prot: Prot,
}

/// The areas of one address space, disjoint and sorted; neighbours that could be one are one.
pub struct AreaSet {
    areas: BTreeMap<u64, Area>,
    recent: Option<Recent>,
    searched: Searched,
}

/// What the last search for a gap found out: from `above` to `limit` no gap has `len` bytes. It stays true until
/// something is removed there. Without it, mapping many areas would take quadratic time.
#[derive(Clone, Copy)]
struct Searched {
    len: u64,
    above: u64,
    limit: u64,
}

impl Searched {
    const NOTHING: Searched = Searched { len: u64::MAX, above: 0, limit: 0 };
}

impl AreaSet {
    /// No areas.
    pub const fn new() -> AreaSet {
        AreaSet { areas: BTreeMap::new(), recent: None, searched: Searched::NOTHING }
    }

    /// The area that contains `addr`.
    pub fn find(&self, addr: u64) -> Option<&Area> {
        self.areas.range(..=addr).next_back().map(|(_, area)| area).filter(|area| addr < area.end)
    }

    /// What is known without a search about the area that contains `addr`, which is private and anonymous.
    #[inline]
    pub fn recent(&self, addr: u64) -> Option<Recent> {
        self.recent.filter(|recent| recent.start <= addr && addr < recent.end)
    }

    /// Remembers `area` for [`recent`](Self::recent). Every change of the set forgets it.
    pub fn remember(&mut self, range: Range<u64>, prot: Prot) {
        self.recent = Some(Recent { start: range.start, end: range.end, prot });
    }

    /// The first area that ends above `addr`.
    pub fn find_from(&self, addr: u64) -> Option<&Area> {
        self.find(addr).or_else(|| self.find_above(addr))
    }

    /// The first area that begins at `addr` or above.
    pub fn find_above(&self, addr: u64) -> Option<&Area> {
        self.areas.range(addr..).next().map(|(_, area)| area)
    }

    /// The last area that begins below `addr`.
    pub fn find_below(&self, addr: u64) -> Option<&Area> {
        self.areas.range(..addr).next_back().map(|(_, area)| area)
    }

    /// All areas, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Area> {
        self.areas.values()
    }

    /// The areas that touch `range`, ascending.
    pub fn touching(&self, range: Range<u64>) -> impl Iterator<Item = &Area> {
        let first = self.find_from(range.start).map_or(range.end, |area| area.start);
        self.areas.range(first.min(range.end)..range.end).map(|(_, area)| area)
    }

    /// True when every page of `range` belongs to an area.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut covered = range.start;
        for area in self.touching(range.clone()) {
            if area.start > covered {
                return false;
            }
            covered = area.end;
        }
        covered >= range.end
    }

    /// ENOMEM when there is no room for two more areas, which is what the cutting of one may take.
    pub fn require_room(&self) -> Result<()> {
        if self.areas.len() + 2 > MAX_AREAS { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// The addresses around `range` that no area uses (`range` itself is taken to be unused).
    pub fn unused_around(&self, range: Range<u64>) -> Range<u64> {
        let start = self.find_below(range.start).map_or(0, |area| area.end);
        let end = self.areas.range(range.end..).next().map_or(USER_END, |(&start, _)| start);
        start.min(range.start)..end
    }

    fn split(&mut self, addr: u64) {
        let Some((_, area)) = self.areas.range_mut(..addr).next_back() else {
            return;
        };
        if addr < area.end {
            let upper = area.split_off(addr);
            self.areas.insert(addr, upper);
        }
    }

    /// Takes out what lies in `range`; areas at its ends are cut. The caller drops the areas outside its lock, since
    /// that may free files.
    pub fn remove(&mut self, range: Range<u64>) -> Vec<Area> {
        self.recent = None;
        self.split(range.start);
        self.split(range.end);
        let mut removed = Vec::new();
        while let Some((&start, _)) = self.areas.range(range.clone()).next() {
            removed.extend(self.areas.remove(&start));
        }
        if !removed.is_empty() && range.end >= self.searched.above {
            self.searched = Searched::NOTHING;
        }
        removed
    }

    /// Adds an area where none is, as part of its neighbours if they are alike.
    pub fn insert(&mut self, area: Area) {
        self.recent = None;
        let range = area.range();
        self.areas.insert(area.start, area);
        self.join(range.end);
        self.join(range.start);
    }

    /// Makes one of the areas that meet at `addr`, if they are alike.
    fn join(&mut self, addr: u64) {
        let Some(next) = self.areas.get(&addr) else { return };
        let Some(below) = self.find_below(addr) else {
            return;
        };
        if below.continues_in(next) {
            let (start, end) = (below.start, next.end);
            // The last reference to a file is not among these: the other area keeps one.
            self.areas.remove(&addr);
            self.areas.entry(start).and_modify(|area| area.end = end);
        }
    }

    /// Lets `change` alter protection and flags of each area in `range`; areas at its ends are cut.
    pub fn change(&mut self, range: Range<u64>, mut change: impl FnMut(&mut Area)) {
        self.recent = None;
        self.split(range.start);
        self.split(range.end);
        let mut edges = Vec::new();
        for (&start, area) in self.areas.range_mut(range.clone()) {
            change(area);
            edges.push(start);
        }
        edges.push(range.end);
        // Descending, so that an edge still begins an area when its turn comes.
        for &edge in edges.iter().rev() {
            self.join(edge);
        }
    }

    /// Moves the start of the area at `start` down to `new_start`.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        self.recent = None;
        if let Some(mut area) = self.areas.remove(&start) {
            area.start = new_start;
            self.areas.insert(new_start, area);
        }
    }

    /// True when no area is in `range`, nor would one there come too near to a stack.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        range.start >= MMAP_MIN_ADDR
            && range.end <= USER_END
            && self.find_from(range.start).is_none_or(|next| next.guarded_start() >= range.end)
    }

    /// The highest free range of `len` bytes below `limit`.
    pub fn gap_below(&mut self, len: u64, limit: u64) -> Option<u64> {
        let known = self.searched.limit == limit && len >= self.searched.len;
        let from = if known { self.searched.above } else { limit };
        let mut end = from;
        if let Some(next) = self.areas.range(from..).next().map(|(_, area)| area) {
            end = end.min(next.guarded_start());
        }
        for (_, area) in self.areas.range(..from).rev() {
            if area.end <= end && end - area.end >= len {
                break;
            }
            end = end.min(area.guarded_start());
        }
        let start = end.checked_sub(len).filter(|&start| start >= MMAP_MIN_ADDR)?;
        self.searched = Searched { len, above: end, limit };
        Some(start)
    }

    /// The lowest free range of `len` bytes within `within`.
    pub fn gap_above(&self, len: u64, within: Range<u64>) -> Option<u64> {
        let mut start = within.start;
        for area in self.touching(within.clone()) {
            if start.checked_add(len)? <= area.guarded_start() {
                break;
            }
            start = start.max(area.end);
        }
        (start.checked_add(len)? <= within.end).then_some(start)
    }
}

#[cfg(test)]
mod tests;
