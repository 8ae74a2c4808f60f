//! mremap(2): growing, shrinking and moving a mapping.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use bitflags::bitflags;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::access::Access;
use crate::memory::address_space::{AddressSpace, Inner};
use crate::memory::callbacks::callbacks;
use crate::memory::frames;
use crate::memory::layout::{MMAP_MIN_ADDR, USER_END, page_up};
use crate::memory::map::{MapFlags, checked_range};
use crate::memory::vma::{Area, AreaFlags, Source};

bitflags! {
    /// `MREMAP_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RemapFlags: u32 {
        /// It may move.
        const MAYMOVE = 1;
        /// It moves to the given address.
        const FIXED = 2;
        /// The old range stays mapped, without its pages.
        const DONTUNMAP = 4;
    }
}

impl AddressSpace {
    /// `mremap`. Returns where the mapping is afterwards.
    pub fn remap(&self, old: u64, old_len: u64, new_len: u64, flags: RemapFlags, target: u64) -> Result<u64> {
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        if (fixed || keep) && !flags.contains(RemapFlags::MAYMOVE) || keep && old_len != new_len {
            return Err(Errno::EINVAL);
        }
        let (old_len, new_len) = (page_up(old_len).ok_or(Errno::EINVAL)?, page_up(new_len).ok_or(Errno::EINVAL)?);
        if new_len == 0 || new_len > USER_END {
            return Err(Errno::EINVAL);
        }
        let old_range = checked_range(old, old_len)?;
        if fixed {
            let new_range = checked_range(target, new_len)?;
            if new_range.start < old_range.end && old_range.start < new_range.end {
                return Err(Errno::EINVAL);
            }
            if target < MMAP_MIN_ADDR {
                return Err(Errno::EPERM);
            }
            if new_range.end > self.end() {
                return Err(Errno::EINVAL);
            }
        }
        frames::require_spare()?;
        let mut removed = Vec::new();
        let mut inner = self.inner.lock();
        let result = self.remap_locked(&mut inner, old_range, new_len, flags, target, &mut removed);
        drop(inner);
        drop(removed);
        let (start, grown) = result?;
        if let Some((range, access)) = grown {
            let _ = self.populate(range, access);
        }
        Ok(start)
    }

    /// The part of [`remap`](Self::remap) under the lock: the new start, and what a locked area has grown by.
    #[allow(clippy::type_complexity)]
    fn remap_locked(
        &self,
        inner: &mut Inner,
        old: Range<u64>,
        new_len: u64,
        flags: RemapFlags,
        target: u64,
        removed: &mut Vec<Area>,
    ) -> Result<(u64, Option<(Range<u64>, Access)>)> {
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        let old_len = old.end - old.start;
        inner.areas.require_room()?;
        let mut area = inner.areas.find(old.start).ok_or(Errno::EFAULT)?.clone();
        if old_len == 0 && !area.is_shared() {
            return Err(Errno::EINVAL);
        }
        if !fixed && !keep && new_len <= old_len {
            if new_len < old_len {
                removed.extend(self.take_out(inner, old.start + new_len..old.end));
            }
            return Ok((old.start, None));
        }
        if old.end > area.end {
            return Err(Errno::EFAULT);
        }
        let more = if keep { new_len } else { new_len.saturating_sub(old_len) };
        if !inner.may_grow(more) {
            return Err(Errno::ENOMEM);
        }
        let access = Access::for_prot(area.prot);
        let locked = area.flags.contains(AreaFlags::LOCKED);
        let grown = |start: u64| (locked && new_len > old_len).then(|| (start + old_len..start + new_len, access));
        let offset = old.start - area.start;
        if !fixed
            && !keep
            && old_len > 0
            && old.end == area.end
            && old.start.checked_add(new_len).is_some_and(|end| end <= self.end() && inner.areas.is_free(old.end..end))
        {
            if let Source::Shared { first, .. } | Source::File { first, .. } = &mut area.source {
                *first += (old.end - area.start) / PAGE_SIZE;
            }
            (area.start, area.end) = (old.end, old.start + new_len);
            inner.add(area);
            return Ok((old.start, grown(old.start)));
        }
        if !flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        let start = if fixed {
            removed.extend(self.take_out(inner, target..target + new_len));
            target
        } else {
            inner.place(target, new_len, MapFlags::empty(), self.room())?
        };
        let moved = old.start..old.start + old_len.min(new_len);
        self.tables.move_to(moved, start)?;
        if old_len > 0 {
            let taken = self.take_out(inner, old.clone());
            if keep {
                for area in taken {
                    inner.add(area);
                }
            } else {
                removed.extend(taken);
            }
        }
        if let Source::Shared { first, .. } | Source::File { first, .. } = &mut area.source {
            *first += offset / PAGE_SIZE;
        }
        (area.start, area.end) = (start, start + new_len);
        let is_vdso = area.flags.contains(AreaFlags::VDSO);
        inner.add(area);
        if is_vdso {
            self.vdso_moved(start - offset);
        }
        Ok((start, grown(start)))
    }
}

impl AddressSpace {
    /// The vDSO's image has been moved by the current task, which may be on its way back to it.
    fn vdso_moved(&self, to: u64) {
        let moved_by = to.wrapping_sub(self.vdso.swap(to, Ordering::Relaxed));
        let pad = self.int80_landing_pad();
        if pad != 0 {
            self.set_int80_landing_pad(pad.wrapping_add(moved_by));
            callbacks().vdso_moved(pad);
        }
    }
}
