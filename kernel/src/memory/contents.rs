//! What is behind an address space's areas: pages that are made present, read from outside, counted and dropped.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::access::Access;
use crate::memory::address_space::AddressSpace;
use crate::memory::callbacks::callbacks;
use crate::memory::frames::Frame;
use crate::memory::layout::{USER_END, page_down};
use crate::memory::map::checked_range;
use crate::memory::vma::{AreaFlags, Prot, Source};
use crate::memory::{frames, page_table, table};

/// How much an address space has mapped, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// In all areas.
    pub size: u64,
    /// In pages that are present.
    pub resident: u64,
    /// In pages that are present and shared or a file's.
    pub shared: u64,
    /// In executable areas.
    pub text: u64,
    /// In private writable areas.
    pub data: u64,
    /// In areas that grow down.
    pub stack: u64,
}

/// Whose memory a word is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// The address space's alone.
    Own,
    /// Anybody's who maps this offset of the file or memory object with this number.
    Shared {
        /// The inode's number, or that of the shared anonymous memory.
        object: u64,
        /// Offset in bytes.
        offset: u64,
    },
}

impl AddressSpace {
    /// Makes every page of the range present, as if each was accessed.
    pub fn populate(&self, range: Range<u64>, access: Access) -> Result<()> {
        for page in range.step_by(PAGE_SIZE as usize) {
            self.fault(page, access).map_err(|signal| signal.errno())?;
            if callbacks().is_being_killed() {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }

    /// The frame behind `addr`, made present for `access` first. EFAULT where a program could not access it so.
    ///
    /// It is the page a program sees now; a later write may replace it (copy-on-write) unless `access` is a write.
    pub fn page(&self, addr: u64, access: Access) -> Result<Frame> {
        loop {
            let inner = self.inner.lock();
            let area = inner.areas.find(addr);
            if area.is_some_and(|area| area.flags.contains(AreaFlags::IO)) {
                return Err(Errno::EFAULT);
            }
            let allowed = area.is_some_and(|area| access.is_allowed(area.prot));
            if let Some(entry) = self.tables.lookup(addr)
                && addr < USER_END
                && allowed
            {
                let entry = entry.load(Ordering::Relaxed);
                if page_table::is_present(entry) && (access != Access::Write || page_table::is_writable(entry)) {
                    return Ok(frames::share_raw(table::address(entry)));
                }
            }
            drop(inner);
            self.fault(addr, access).map_err(|_| Errno::EFAULT)?;
        }
    }

    /// Whose memory the word at `addr` is in: what two address spaces that map it agree on. The page is made present, for
    /// writing where the program could write. EFAULT where it could not access it so, and for private pages that it can only
    /// read: they never change.
    pub fn identity(&self, addr: u64, access: Access) -> Result<Identity> {
        let (frame, read_only) = match self.page(addr, Access::Write) {
            Err(Errno::EFAULT) if access == Access::Read => (self.page(addr, Access::Read)?, true),
            frame => (frame?, false),
        };
        let area = self.area(addr).ok_or(Errno::EFAULT)?;
        if read_only && !area.prot.contains(Prot::READ) {
            return Err(Errno::EFAULT);
        }
        let index = area.page_index(page_down(addr));
        let object = match &area.source {
            Source::Shared { memory, .. } => memory.number(),
            Source::File { file, shared: true, .. } => file.identity().1,
            // Not written to so far, it is still the file's own page.
            Source::File { file, .. } if read_only && file.frame(index)?.addr() == frame.addr() => file.identity().1,
            _ if read_only => return Err(Errno::EFAULT),
            _ => return Ok(Identity::Own),
        };
        Ok(Identity::Shared { object, offset: index * PAGE_SIZE + addr % PAGE_SIZE })
    }

    /// True when the page at `addr` is present.
    pub fn is_resident(&self, addr: u64) -> bool {
        let _inner = self.inner.lock();
        self.tables.lookup(addr).is_some_and(|entry| entry.load(Ordering::Relaxed) != 0)
    }

    /// Reads memory of this address space, which need not be the current one. Returns how many bytes could be read.
    pub fn read(&self, addr: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let at = addr.wrapping_add(done as u64);
            let Ok(frame) = self.page(at, Access::Read) else {
                break;
            };
            let offset = (at % PAGE_SIZE) as usize;
            let len = (buffer.len() - done).min(PAGE_SIZE as usize - offset);
            // SAFETY: within the frame, which the reference keeps; within the buffer, which is not user memory.
            unsafe { ptr::copy_nonoverlapping(frame.as_ptr().add(offset), buffer[done..].as_mut_ptr(), len) };
            done += len;
        }
        done
    }

    /// How much is mapped. Looks at every page.
    pub fn usage(&self) -> Usage {
        let inner = self.inner.lock();
        let mut usage = Usage { size: inner.size, ..Usage::default() };
        for area in inner.areas.iter() {
            let len = area.end - area.start;
            let shared = !matches!(area.source, Source::Anonymous);
            self.tables.for_each(area.range(), |_, _| {
                usage.resident += PAGE_SIZE;
                usage.shared += if shared { PAGE_SIZE } else { 0 };
            });
            if area.flags.contains(AreaFlags::GROWS_DOWN) {
                usage.stack += len;
            } else if area.prot.contains(Prot::EXEC) {
                usage.text += len;
            } else if area.prot.contains(Prot::WRITE) && !area.is_shared() {
                usage.data += len;
            }
        }
        usage
    }

    /// The most bytes that were ever present at once.
    pub fn peak_resident(&self) -> u64 {
        self.tables.peak()
    }

    /// Drops the pages of the range: anonymous memory reads as zeros afterwards. ENOMEM where parts are not mapped.
    pub fn discard(&self, start: u64, len: u64) -> Result<()> {
        let range = checked_range(start, len)?;
        let inner = self.inner.lock();
        self.tables.clear(range.clone(), 0..0);
        if inner.areas.covers(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}
