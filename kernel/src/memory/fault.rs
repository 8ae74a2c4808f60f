//! Page faults.
//!
//! The ordinary one, the first touch of a page of anonymous memory, takes a look at the area that was found last, a walk
//! down the tables, a frame from the pool and the zeroing of it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general::RLIMIT_STACK;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::access::Access;
use crate::memory::address_space::{AddressSpace, Inner};
use crate::memory::frames::Frame;
use crate::memory::layout::{MMAP_MIN_ADDR, USER_END, page_down};
use crate::memory::map::limit;
use crate::memory::page_table::leaf;
use crate::memory::vma::{AreaFlags, Prot, STACK_GUARD_GAP, Source};
use crate::memory::{frames, page_table, pkeys, table, tlb};

/// Error code of a page fault (SDM volume 3, 4.7): the page is there.
pub const ERROR_PRESENT: u64 = 1 << 0;
/// It was a write.
pub const ERROR_WRITE: u64 = 1 << 1;
/// From user mode.
pub const ERROR_USER: u64 = 1 << 2;
/// It was the fetch of an instruction.
pub const ERROR_FETCH: u64 = 1 << 4;
/// The page's key forbids it.
const ERROR_KEY: u64 = 1 << 5;

const SIGBUS: i32 = 7;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SEGV_MAPERR: i32 = 1;
/// `si_code`: the page is there, and forbids it.
pub const SEGV_ACCERR: i32 = 2;
const SEGV_PKUERR: i32 = 4;
const BUS_ADRERR: i32 = 2;
const SI_KERNEL: i32 = 0x80;

/// The access that an error code tells of.
fn access_of(error: u64) -> Access {
    if error & ERROR_WRITE != 0 {
        Access::Write
    } else if error & ERROR_FETCH != 0 {
        Access::Execute
    } else {
        Access::Read
    }
}

/// The signal for a fault that cannot be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultSignal {
    /// SIGSEGV, SIGBUS; SIGKILL when memory is exhausted.
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// The address.
    pub addr: u64,
    /// The protection key that forbids it.
    pub key: u32,
}

impl FaultSignal {
    /// SIGSEGV.
    pub fn segv(code: i32, addr: u64) -> FaultSignal {
        FaultSignal { signo: SIGSEGV, code, addr, key: 0 }
    }

    fn key(prot: Prot, addr: u64) -> FaultSignal {
        FaultSignal { key: prot.key(), ..FaultSignal::segv(SEGV_PKUERR, addr) }
    }

    fn out_of_memory(addr: u64) -> FaultSignal {
        FaultSignal { signo: SIGKILL, code: SI_KERNEL, addr, key: 0 }
    }

    /// The error for a system call that met it.
    pub fn errno(&self) -> Errno {
        if self.signo == SIGKILL { Errno::ENOMEM } else { Errno::EFAULT }
    }
}

/// Whose rights count for an access, beside the protection of the area.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Nobody's: the kernel's own access.
    All,
    /// A debugger's: to read everything, and to write to what is private or writable.
    Debugger,
    /// The current task's, by the keys of pages.
    Keys,
    /// The CPU has found that the key forbids it.
    None,
}

type FaultResult = core::result::Result<(), FaultSignal>;

impl AddressSpace {
    /// Makes the page at `addr` present for `access`, or says which signal Linux sends.
    pub fn fault(&self, addr: u64, access: Access) -> FaultResult {
        self.fault_with(addr, access, || Rights::All)
    }

    /// As [`fault`](Self::fault), for an instruction of the current task's, whose protection keys count.
    #[inline(always)]
    pub fn fault_here(&self, addr: u64, error: u64) -> FaultResult {
        self.fault_with(addr, access_of(error), || if error & ERROR_KEY != 0 { Rights::None } else { Rights::Keys })
    }

    /// Areas with keys are never recent: what the CPU may have refused there had a key before.
    #[inline(always)]
    fn fault_with(&self, addr: u64, access: Access, rights: impl FnOnce() -> Rights) -> FaultResult {
        let page = page_down(addr);
        let inner = self.inner.lock();
        match inner.areas.recent(page) {
            Some(recent) if access.is_allowed(recent.prot) => {
                (self.fault_anonymous(page, recent.prot, access)).map_err(|_| FaultSignal::out_of_memory(addr))
            }
            _ => {
                drop(inner);
                self.fault_slow(addr, access, rights())
            }
        }
    }

    /// As [`fault`](Self::fault), but with a debugger's rights: to read everything, and to write to what is private or
    /// writable.
    pub(super) fn fault_forced(&self, addr: u64, access: Access) -> FaultResult {
        self.fault_slow(addr, access, Rights::Debugger)
    }

    #[cold]
    fn fault_slow(&self, addr: u64, access: Access, rights: Rights) -> FaultResult {
        if addr >= USER_END {
            return Err(FaultSignal::segv(SEGV_MAPERR, addr));
        }
        let page = page_down(addr);
        let mut inner = self.inner.lock();
        loop {
            let Some(area) = inner.areas.find(addr) else {
                if self.grow_stack(&mut inner, page) {
                    continue;
                }
                return Err(FaultSignal::segv(SEGV_MAPERR, addr));
            };
            let forced = rights == Rights::Debugger && (access != Access::Write || area.may_force_write());
            if !access.is_allowed(area.prot) && !forced {
                return Err(FaultSignal::segv(SEGV_ACCERR, addr));
            }
            let denied = match rights {
                Rights::None => true,
                Rights::Keys => pkeys::denies(area.prot, access),
                Rights::All | Rights::Debugger => false,
            };
            if denied {
                return Err(FaultSignal::key(area.prot, addr));
            }
            let (range, prot, shared, index) = (area.range(), area.prot, area.is_shared(), area.page_index(page));
            let resolved = match &area.source {
                Source::Anonymous => {
                    if prot.key() == 0 {
                        inner.areas.remember(range, prot);
                    }
                    self.fault_anonymous(page, prot, access)
                }
                Source::Shared { memory, .. } => self.fault_backed(page, prot, shared, access, || memory.page(index)),
                // Under the lock, so that a truncation finds the page here, or the fault finds the file cut.
                Source::File { file, .. } => self.fault_backed(page, prot, shared, access, || file.frame(index)),
            };
            return resolved.map_err(|errno| match errno {
                Errno::ENOMEM => FaultSignal::out_of_memory(addr),
                _ => FaultSignal { signo: SIGBUS, code: BUS_ADRERR, addr, key: 0 },
            });
        }
    }

    /// A fault on private anonymous memory that the access is allowed to. ENOMEM is the only error.
    #[inline]
    fn fault_anonymous(&self, page: u64, prot: Prot, access: Access) -> Result<()> {
        let entry = self.tables.lookup_or_create(page)?;
        let old = entry.load(Relaxed);
        if old != 0 {
            return self.fault_present(entry, old, page, prot, false, access);
        }
        if access == Access::Write {
            self.tables.install(entry, leaf(frames::alloc_zeroed()?.into_raw(), prot, true));
        } else {
            let zeros = frames::share_raw(frames::zero_frame());
            self.tables.install(entry, leaf(zeros.into_raw(), prot, false));
        }
        Ok(())
    }

    /// A fault on memory whose pages come from `source`.
    fn fault_backed(
        &self,
        page: u64,
        prot: Prot,
        shared: bool,
        access: Access,
        source: impl FnOnce() -> Result<Frame>,
    ) -> Result<()> {
        let entry = self.tables.lookup_or_create(page)?;
        let old = entry.load(Relaxed);
        if old != 0 {
            return self.fault_present(entry, old, page, prot, shared, access);
        }
        let frame = source()?;
        if access == Access::Write && !shared {
            let copy = frames::alloc()?;
            copy.copy_from(&frame);
            self.tables.install(entry, leaf(copy.into_raw(), prot, true));
        } else {
            self.tables.install(entry, leaf(frame.into_raw(), prot, shared));
        }
        Ok(())
    }

    /// A fault although there is a page: it is to be written and may be shared, or another CPU was faster.
    fn fault_present(
        &self,
        entry: &AtomicU64,
        old: u64,
        page: u64,
        prot: Prot,
        shared: bool,
        access: Access,
    ) -> Result<()> {
        let addr = table::address(old);
        if access != Access::Write || page_table::is_writable(old) || shared {
            entry.store(leaf(addr, prot, shared || page_table::is_writable(old)), Relaxed);
            tlb::flush_local(page);
            return Ok(());
        }
        // SAFETY: the reference that the entry holds; it goes back there, or goes for good with the entry.
        let frame = unsafe { Frame::from_raw(addr) };
        if addr != frames::zero_frame() && frame.is_unique() {
            // Only this entry refers to it, and whoever could make another has to take this lock.
            entry.store(leaf(frame.into_raw(), prot, true), Relaxed);
            // Other CPUs may still know it as read-only; their writes fault and end here.
            tlb::flush_local(page);
            return Ok(());
        }
        let copy = if addr == frames::zero_frame() { frames::alloc_zeroed() } else { frames::alloc() };
        let copy = match copy {
            Ok(copy) => copy,
            Err(errno) => {
                frame.into_raw();
                return Err(errno);
            }
        };
        if addr != frames::zero_frame() {
            copy.copy_from(&frame);
        }
        entry.store(leaf(copy.into_raw(), prot, true), Relaxed);
        // Other threads must not go on reading the old frame.
        tlb::flush(self.tables.pgd(), page..page + PAGE_SIZE);
        drop(frame);
        Ok(())
    }

    /// Extends the area above `page` down to it, if that is one that grows and may.
    fn grow_stack(&self, inner: &mut Inner, page: u64) -> bool {
        let Some(area) = inner.areas.find_above(page) else {
            return false;
        };
        let (start, end) = (area.start, area.end);
        if !area.flags.contains(AreaFlags::GROWS_DOWN) || page < MMAP_MIN_ADDR {
            return false;
        }
        if end - page > limit(RLIMIT_STACK) || !inner.may_grow(start - page) {
            return false;
        }
        if let Some(below) = inner.areas.find_below(page)
            && !below.flags.contains(AreaFlags::GROWS_DOWN)
            && !below.prot.rights().is_empty()
            && page - below.end < STACK_GUARD_GAP
        {
            return false;
        }
        inner.areas.grow_down(start, page);
        inner.grown(start - page);
        true
    }
}

#[cfg(test)]
mod tests;
