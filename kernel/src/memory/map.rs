//! Mapping, unmapping and protecting: the operations that change what an address space has.
//!
//! One lock guards areas and page tables. Whatever may free a file (dropping areas) happens outside it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use bitflags::bitflags;
use linux_raw_sys::general::{RLIMIT_AS, RLIMIT_DATA};

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::access::Access;
use crate::memory::address_space::{AddressSpace, Inner};
use crate::memory::backing::Backing;
use crate::memory::callbacks::callbacks;
use crate::memory::frames;
use crate::memory::layout::{MMAP_MIN_ADDR, USER_END, page_down, page_up};
use crate::memory::shared::SharedMemory;
use crate::memory::vma::{Area, AreaFlags, Prot, Source};
use crate::memory::width::{Room, Width};

/// Where MAP_32BIT of a 64-bit call places mappings: in the second GiB, the lowest first; a hint may be below.
const LOW_ROOM: Room = Room { end: 0x8000_0000, top: None, bottom: 0x4000_0000 };
/// What a new stack begins with, before it grows.
const INITIAL_STACK: u64 = 132 << 10;

bitflags! {
    /// `MAP_*`, as far as it matters beside the backing.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u32 {
        /// Writes reach everybody who maps the same.
        const SHARED = 0x01;
        /// Writes stay here.
        const PRIVATE = 0x02;
        /// At this address, in place of what is there.
        const FIXED = 0x10;
        /// In the second GiB.
        const LOW_32BIT = 0x40;
        /// Grows downwards when the page below is touched.
        const GROWSDOWN = 0x100;
        /// All pages at once, and for good.
        const LOCKED = 0x2000;
        /// No promise that memory suffices.
        const NORESERVE = 0x4000;
        /// All pages at once.
        const POPULATE = 0x8000;
        /// At this address, or not at all where something is there.
        const FIXED_NOREPLACE = 0x10_0000;
        /// Not of the ABI: the file is open for reading only, so a shared mapping never becomes writable.
        const FILE_READ_ONLY = 1 << 31;
    }
}

/// Where the pages of a new mapping come from.
pub enum Object {
    /// Zeros; shared between relatives with [`MapFlags::SHARED`].
    Anonymous,
    /// A file.
    File {
        /// The file.
        file: Arc<dyn Backing>,
        /// Offset in bytes of the mapping's first page, a multiple of the page size.
        offset: u64,
        /// Writes go to the file.
        shared: bool,
    },
}

impl AddressSpace {
    /// Where new mappings go: 32-bit calls get addresses that they can hold, also from a 64-bit program.
    pub(super) fn room(&self) -> Room {
        let width = match callbacks().width_of_call() {
            Width::Bits32 => Width::Bits32,
            Width::Bits64 => self.width,
        };
        if width == self.width { self.placement().room(width) } else { width.room() }
    }

    /// Maps `len` bytes (rounded up to pages), at `hint` where that is fixed or free, else at the highest free range.
    ///
    /// `prot` and `flags` are the ABI's (`PROT_*`, `MAP_*`); bits that mean nothing here are ignored.
    pub fn map(&self, hint: u64, len: u64, prot: u32, flags: u32, object: Object) -> Result<u64> {
        let (prot, flags) = (Prot::from_abi(prot), MapFlags::from_bits_truncate(flags));
        let len = match page_up(len).ok_or(Errno::ENOMEM)? {
            0 => return Err(Errno::EINVAL),
            len => len,
        };
        frames::require_spare()?;
        let read_only = flags.contains(MapFlags::SHARED | MapFlags::FILE_READ_ONLY);
        let mut max_prot = if read_only { Prot::READ | Prot::EXEC } else { Prot::all() };
        let source = match object {
            Object::Anonymous if flags.contains(MapFlags::SHARED) => {
                Source::Shared { memory: Arc::new(SharedMemory::new()), first: 0 }
            }
            Object::Anonymous => Source::Anonymous,
            Object::File { file, offset, shared } => {
                if !offset.is_multiple_of(PAGE_SIZE) {
                    return Err(Errno::EINVAL);
                }
                if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
                    return Err(Errno::EOVERFLOW);
                }
                Source::File { file, first: offset / PAGE_SIZE, shared }
            }
        };
        if !max_prot.contains(prot) {
            return Err(Errno::EACCES);
        }
        let private_write = prot.contains(Prot::WRITE) && !flags.contains(MapFlags::SHARED);
        if private_write && !flags.contains(MapFlags::NORESERVE) && len > frames::total_bytes() {
            return Err(Errno::ENOMEM);
        }

        let fixed = flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        let low = flags.contains(MapFlags::LOW_32BIT) && !fixed && callbacks().width_of_call() == Width::Bits64;
        let room = if low { LOW_ROOM } else { self.room() };
        let mut inner = self.inner.lock();
        let start = inner.place(hint, len, flags, room)?;
        let range = start..start + len;
        inner.areas.require_room()?;
        if !inner.may_grow(len) {
            return Err(Errno::ENOMEM);
        }
        if let Source::File { file, shared, .. } = &source
            && !file.prepare_map(*shared && !read_only)?
        {
            if prot.contains(Prot::WRITE) {
                return Err(Errno::EPERM);
            }
            max_prot -= Prot::WRITE;
        }
        let replaced = self.take_out(&mut inner, range.clone());
        let mut area_flags = AreaFlags::empty();
        area_flags.set(AreaFlags::GROWS_DOWN, flags.contains(MapFlags::GROWSDOWN));
        area_flags.set(AreaFlags::STACK, flags.contains(MapFlags::GROWSDOWN) && range.end == self.stack_top());
        area_flags.set(AreaFlags::LOCKED, flags.contains(MapFlags::LOCKED));
        inner.add(Area {
            start,
            end: range.end,
            prot: self.keys.of_mapping(prot),
            max_prot,
            flags: area_flags,
            source,
        });
        drop(inner);
        drop(replaced);
        callbacks().mapped(self, start);
        if flags.intersects(MapFlags::POPULATE | MapFlags::LOCKED) {
            // As on Linux, the mapping stands even where its pages cannot be had.
            let _ = self.populate(range, Access::for_prot(prot));
        }
        Ok(start)
    }

    /// Takes areas and pages out of `range`. The result is to be dropped outside the lock.
    pub(super) fn take_out(&self, inner: &mut Inner, range: Range<u64>) -> Vec<Area> {
        let removed = inner.areas.remove(range.clone());
        if !removed.is_empty() {
            inner.size -= removed.iter().map(|area| area.end - area.start).sum::<u64>();
            self.tables.clear(range.clone(), inner.areas.unused_around(range));
        }
        removed
    }

    /// Removes whatever is mapped in the range.
    pub fn unmap(&self, start: u64, len: u64) -> Result<()> {
        let range = checked_range(start, len)?;
        if range.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut inner = self.inner.lock();
        inner.areas.require_room()?;
        let removed = self.take_out(&mut inner, range);
        drop(inner);
        drop(removed);
        Ok(())
    }

    /// Changes the protection of the range. As on Linux, what lies before the first obstacle has changed when it fails:
    /// ENOMEM for a page that is not mapped, EACCES for what the mapping may not become.
    pub fn protect(&self, start: u64, len: u64, prot: Prot, key: Option<u32>) -> Result<()> {
        if !start.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let range = checked_range(start, len).map_err(|_| Errno::ENOMEM)?;
        if range.is_empty() {
            return Ok(());
        }
        frames::require_spare()?;
        let mut inner = self.inner.lock();
        inner.areas.require_room()?;
        if key.is_some_and(|key| !self.keys.is_allocated(key)) {
            return Err(Errno::EINVAL);
        }
        let new_prot = |area: &Area| match key {
            Some(key) => prot.with_key(key),
            None => self.keys.of_change(area, prot),
        };
        let mut reached = range.start;
        let mut result = Ok(());
        for area in inner.areas.touching(range.clone()) {
            if area.start > reached {
                break;
            }
            if !area.max_prot.contains(prot) {
                result = Err(Errno::EACCES);
                break;
            }
            reached = area.end.min(range.end);
            self.tables.protect(area.start.max(range.start)..reached, new_prot(area), area.is_shared());
        }
        if result.is_ok() && reached < range.end {
            result = Err(Errno::ENOMEM);
        }
        inner.areas.change(range.start..reached, |area| area.prot = new_prot(area));
        result
    }

    /// Maps the stack of a new program: small, but with room for the `used` bytes that it starts with, and growing when it
    /// is touched.
    pub fn map_stack(&self, executable: bool, used: u64) -> Result<()> {
        let prot = Prot::READ | Prot::WRITE | if executable { Prot::EXEC } else { Prot::empty() };
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::GROWSDOWN;
        let len = page_up(used).ok_or(Errno::ENOMEM)?.max(INITIAL_STACK);
        self.map(self.stack_top() - len, len, prot.bits(), flags.bits(), Object::Anonymous).map(|_| ())
    }

    /// Says where the area of `brk` begins: at the first page after the program's data.
    pub fn set_brk_start(&self, start: u64) -> Result<()> {
        let start = page_up(start).filter(|&start| start < self.end()).ok_or(Errno::ENOMEM)?;
        let mut inner = self.inner.lock();
        (inner.brk_start, inner.brk) = (start, start);
        Ok(())
    }

    /// Moves the end of the area of `brk` to `end` if that is possible. Returns where it is afterwards.
    pub fn brk(&self, end: u64) -> u64 {
        let spare = frames::require_spare().is_ok();
        let mut inner = self.inner.lock();
        let (old, start) = (inner.brk, inner.brk_start);
        if end < start || end > self.end() - PAGE_SIZE {
            return old;
        }
        let (old_end, new_end) = (old.next_multiple_of(PAGE_SIZE), end.next_multiple_of(PAGE_SIZE));
        let mut removed = Vec::new();
        if new_end < old_end {
            removed = self.take_out(&mut inner, new_end..old_end);
        } else if new_end > old_end {
            let more = new_end - old_end;
            let allowed = spare
                && end - start <= limit(RLIMIT_DATA)
                && more <= frames::total_bytes()
                && inner.areas.require_room().is_ok()
                && inner.may_grow(more)
                && inner.areas.is_free(old_end..new_end);
            if !allowed {
                return old;
            }
            inner.add(Area {
                start: old_end,
                end: new_end,
                prot: Prot::READ | Prot::WRITE,
                max_prot: Prot::all(),
                flags: AreaFlags::HEAP,
                source: Source::Anonymous,
            });
        }
        inner.brk = end;
        drop(inner);
        drop(removed);
        end
    }

    /// Sets and clears properties of the areas in the range. ENOMEM where parts are not mapped.
    pub fn set_flags(&self, start: u64, len: u64, set: AreaFlags, clear: AreaFlags) -> Result<()> {
        let range = checked_range(start, len)?;
        frames::require_spare()?;
        let mut inner = self.inner.lock();
        inner.areas.require_room()?;
        inner.areas.change(range.clone(), |area| area.flags = (area.flags | set) - clear);
        if inner.areas.covers(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Limits what `mprotect` may allow in the range, and adds properties.
    pub fn limit(&self, range: Range<u64>, max_prot: Prot, flags: AreaFlags) {
        self.inner.lock().areas.change(range, |area| {
            area.max_prot = max_prot;
            area.flags |= flags;
        });
    }

    /// True when `test` holds for each area in the range, and all of it is mapped.
    pub fn all(&self, start: u64, len: u64, test: impl FnMut(&Area) -> bool) -> Result<bool> {
        let range = checked_range(start, len)?;
        let inner = self.inner.lock();
        Ok(inner.areas.covers(range.clone()) && inner.areas.touching(range).all(test))
    }
}

impl Inner {
    pub(super) fn add(&mut self, area: Area) {
        self.size += area.end - area.start;
        self.areas.insert(area);
    }

    /// True when `more` bytes fit in RLIMIT_AS.
    pub(super) fn may_grow(&self, more: u64) -> bool {
        self.size.saturating_add(more) <= limit(RLIMIT_AS)
    }

    /// Notes that an area has grown.
    pub(super) fn grown(&mut self, bytes: u64) {
        self.size += bytes;
    }

    /// Where a mapping of `len` bytes goes.
    pub(super) fn place(&mut self, hint: u64, len: u64, flags: MapFlags, room: Room) -> Result<u64> {
        if len > room.end {
            return Err(Errno::ENOMEM);
        }
        if flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            if !hint.is_multiple_of(PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            if hint > room.end - len {
                return Err(Errno::ENOMEM);
            }
            if hint < MMAP_MIN_ADDR {
                return Err(Errno::EPERM);
            }
            let range = hint..hint + len;
            if flags.contains(MapFlags::FIXED_NOREPLACE) && self.areas.touching(range).next().is_some() {
                return Err(Errno::EEXIST);
            }
            return Ok(hint);
        }
        if hint != 0
            && let Some(hint) = page_up(hint).map(|hint| hint.max(MMAP_MIN_ADDR))
            && hint <= room.end - len
            && self.areas.is_free(hint..hint + len)
        {
            return Ok(hint);
        }
        (room.top.and_then(|top| self.areas.gap_below(len, top)))
            .or_else(|| self.areas.gap_above(len, room.bottom..room.end))
            .ok_or(Errno::ENOMEM)
    }
}

/// A resource limit of the current process.
pub(super) fn limit(which: u32) -> u64 {
    callbacks().limit(which)
}

/// The pages from `start`, which must begin one, to `start + len`. EINVAL where they are not the user's.
pub(super) fn checked_range(start: u64, len: u64) -> Result<Range<u64>> {
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    if start != page_down(start) || len > USER_END || start > USER_END - len {
        return Err(Errno::EINVAL);
    }
    Ok(start..start + len)
}
