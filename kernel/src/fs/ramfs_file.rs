//! The data of regular files: page frames that `read`, `write` and mappings share.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::frames::Frame;
use crate::memory::{frames, rmap};
use crate::signal;
use crate::task::current;
use crate::task::signals::info::SigInfo;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::inode::Inode;
use crate::vfs::sleep_lock::SleepLock;
use crate::vfs::write_count::WriteCount;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
const PAGE: u64 = PAGE_SIZE as u64;

/// The largest offset a file can have.
const MAX_SIZE: u64 = i64::MAX as u64;

/// The size and the frames of a file. A missing frame is a hole.
struct Pages {
    size: u64,
    frames: BTreeMap<u64, Frame>,
}

/// The data of a regular file.
///
/// `writing` serialises whole writes (so that appends do not mix, and a size is never seen to shrink) and is held
/// while user memory is touched; `pages` is held for moments only, and never while user memory is touched, so that a
/// write whose source is a mapping of the same file works.
pub struct Data {
    writing: SleepLock<()>,
    pages: SpinLock<Pages>,
    /// Whether it was ever mapped.
    mapped: AtomicBool,
    /// Open files that may write, or programs that run it.
    pub(super) writers: WriteCount,
    /// `F_SEAL_*` of a memfd.
    seals: AtomicU32,
    name: Option<Box<[u8]>>,
}

impl Data {
    /// An empty file, which cannot be sealed.
    pub fn new() -> Self {
        Data {
            writing: SleepLock::new(()),
            pages: SpinLock::new(Pages { size: 0, frames: BTreeMap::new() }),
            mapped: AtomicBool::new(false),
            writers: WriteCount::new(),
            seals: AtomicU32::new(abi::F_SEAL_SEAL),
            name: None,
        }
    }

    /// The data of a memfd called `name`.
    pub fn new_memfd(name: &[u8], sealable: bool) -> Self {
        let data = Data { name: Some(name.into()), ..Data::new() };
        data.seals.store(if sealable { 0 } else { abi::F_SEAL_SEAL }, Ordering::Relaxed);
        data
    }

    /// What `/proc` shows for a memfd.
    pub fn label(&self) -> Option<Vec<u8>> {
        let name = self.name.as_ref()?;
        Some([b"/memfd:", &name[..], b" (deleted)"].concat())
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.pages.lock().size
    }

    /// Memory in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.pages.lock().frames.len() as u64 * (PAGE / 512)
    }

    /// `fcntl(F_GET_SEALS)`.
    pub fn seals(&self) -> u32 {
        self.seals.load(Ordering::Relaxed)
    }

    /// See [`Inode::map`].
    pub fn map(&self, writes: bool) -> Result<bool> {
        // Before any fault asks for a page: a truncation that does not see this is seen by all of them.
        self.mapped.store(true, Ordering::SeqCst);
        let sealed = self.seals.load(Ordering::SeqCst) & (abi::F_SEAL_WRITE | abi::F_SEAL_FUTURE_WRITE) != 0;
        Ok(!(writes && sealed))
    }

    /// `fcntl(F_ADD_SEALS)`, for the data of `file`.
    pub fn add_seals(&self, file: &dyn Inode, seals: u32) -> Result<()> {
        let known = abi::F_SEAL_SEAL | abi::F_SEAL_SHRINK | abi::F_SEAL_GROW | abi::F_SEAL_WRITE;
        if seals & !(known | abi::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EINVAL);
        }
        let _writing = self.writing.lock();
        let old = self.seals();
        if old & abi::F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        // First the seal, then the search: a mapping made meanwhile is refused, or found.
        self.seals.fetch_or(seals, Ordering::SeqCst);
        let new_write_seal = seals & !old & abi::F_SEAL_WRITE != 0;
        if new_write_seal && self.is_mapped() && rmap::is_mapped_writable(file) {
            self.seals.store(old, Ordering::SeqCst);
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// The frame of page `index`, made if it is a hole; ENXIO beyond the end.
    pub fn page(&self, index: u64) -> Result<Frame> {
        let mut pages = self.pages.lock();
        if index >= pages.size.div_ceil(PAGE) {
            return Err(Errno::ENXIO);
        }
        pages.frame(index)
    }

    fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::SeqCst)
    }

    /// Cuts or extends to `size` the data of `file`.
    pub fn truncate(&self, file: &dyn Inode, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let _writing = self.writing.lock();
        let (old, seals) = (self.size(), self.seals());
        if size > old {
            allowed_size(size - 1)?;
        }
        if size < old && seals & abi::F_SEAL_SHRINK != 0 || size > old && seals & abi::F_SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        let cut = {
            let mut pages = self.pages.lock();
            pages.clear_tail(size.min(old));
            pages.size = size;
            pages.frames.split_off(&size.div_ceil(PAGE))
        };
        if size < old && self.is_mapped() {
            rmap::unmap_truncated(file, size.div_ceil(PAGE)..u64::MAX);
        }
        // Outside the lock: freeing a large file takes a while.
        drop(cut);
        Ok(())
    }

    /// `fallocate`: makes room for `offset..offset + len` in the data of `file`, clears it with `FALLOC_FL_ZERO_RANGE`,
    /// gives it back with `FALLOC_FL_PUNCH_HOLE`.
    pub fn allocate(&self, file: &dyn Inode, mode: u32, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let _writing = self.writing.lock();
        let punches = mode & abi::FALLOC_FL_PUNCH_HOLE != 0;
        if !punches && end > self.size() && self.seals() & abi::F_SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        if mode & (abi::FALLOC_FL_PUNCH_HOLE | abi::FALLOC_FL_ZERO_RANGE) != 0 {
            if self.seals() & (abi::F_SEAL_WRITE | abi::F_SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            self.clear(offset, end);
        }
        if punches {
            self.punch(file, offset.div_ceil(PAGE)..end / PAGE);
        }
        if !punches {
            for index in offset / PAGE..end.div_ceil(PAGE) {
                self.pages.lock().frame(index)?;
            }
        }
        if mode & abi::FALLOC_FL_KEEP_SIZE == 0 {
            self.extend(end)?;
        }
        Ok(())
    }

    /// Gives whole pages back, which are holes then.
    fn punch(&self, file: &dyn Inode, indices: Range<u64>) {
        let mut removed = BTreeMap::new();
        {
            let mut pages = self.pages.lock();
            let within = indices.start..indices.end.max(indices.start);
            let held: Vec<u64> = pages.frames.range(within).map(|(&index, _)| index).collect();
            for index in held {
                removed.extend(pages.frames.remove(&index).map(|frame| (index, frame)));
            }
        }
        if !removed.is_empty() && self.is_mapped() {
            rmap::unmap_punched(file, indices, |index| removed.get(&index).map(Frame::addr));
        }
    }

    fn clear(&self, offset: u64, end: u64) {
        // By the pages that there are, not by the range: it may be as long as files can be.
        let mut next = offset / PAGE;
        loop {
            let pages = self.pages.lock();
            let Some((&index, frame)) = pages.frames.range(next..end.div_ceil(PAGE)).next() else {
                return;
            };
            let (from, to) = (offset.max(index * PAGE), end.min(index * PAGE + PAGE));
            clear_frame(frame, (from % PAGE) as usize, (to - from) as usize);
            next = index + 1;
        }
    }

    /// Extends to `size` if it is shorter.
    fn extend(&self, size: u64) -> Result<()> {
        let mut pages = self.pages.lock();
        if size > pages.size {
            if self.seals() & abi::F_SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            let old = pages.size;
            pages.clear_tail(old);
            pages.size = size;
        }
        Ok(())
    }

    /// Copies from `position` on.
    pub fn read(&self, to: &mut Destination, position: &mut u64) -> Result<()> {
        while to.remaining() > 0 {
            let within = (*position % PAGE) as usize;
            let (frame, len) = {
                let pages = self.pages.lock();
                let left = pages.size.saturating_sub(*position).min(PAGE) as usize;
                if left == 0 {
                    break;
                }
                let len = to.remaining().min(PAGE_SIZE - within).min(left);
                (pages.frames.get(&(*position / PAGE)).cloned(), len)
            };
            let copy = |to: &mut Destination, len| match &frame {
                // SAFETY: the frame is held by `frame`, and `within + len` is at most a page.
                Some(frame) => unsafe { to.put_raw(frame.as_ptr().add(within), len) },
                None => to.put_zeros(len),
            };
            let before = to.done();
            let mut result = copy(to, len);
            if result.is_err() && to.to_page_end() < len {
                // What is in front of the faulting page is still read.
                result = copy(to, to.to_page_end()).and(result);
            }
            *position += (to.done() - before) as u64;
            result?;
        }
        Ok(())
    }

    /// Writes at `position`, or at the end with `append`; then moves `position`.
    pub fn write(&self, from: &mut Source, position: &mut u64, append: bool) -> Result<()> {
        if from.remaining() == 0 {
            return Ok(());
        }
        let _writing = self.writing.lock();
        if append {
            *position = self.size();
        }
        from.limit(allowed_size(*position)?.saturating_sub(*position) as usize);
        let seals = self.seals();
        if seals & (abi::F_SEAL_WRITE | abi::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if seals & abi::F_SEAL_GROW != 0 && *position + from.remaining() as u64 > self.size() {
            return Err(Errno::EPERM);
        }
        // The gap between the old end and the new data reads as zeros, whatever a mapping wrote there.
        if *position > self.size() {
            self.extend(*position)?;
        }
        while from.remaining() > 0 {
            if *position >= MAX_SIZE {
                return Err(Errno::EFBIG);
            }
            let within = (*position % PAGE) as usize;
            let len = from.remaining().min(PAGE_SIZE - within);
            let frame = self.pages.lock().frame(*position / PAGE)?;
            let before = from.done();
            // SAFETY: the frame is held by `frame`, and `within + len` is at most a page.
            let mut copied = unsafe { from.take_raw(frame.as_ptr().add(within), len) };
            if copied.is_err() && from.to_page_end() < len {
                // What is in front of the faulting page is still written.
                let offset = within + from.done() - before;
                // SAFETY: as above.
                copied = unsafe { from.take_raw(frame.as_ptr().add(offset), from.to_page_end()) }.and(copied);
            }
            let done = from.done() - before;
            *position += done as u64;
            let mut pages = self.pages.lock();
            pages.size = pages.size.max(*position);
            if copied.is_err() {
                // What arrived beyond the end must not show when the file grows.
                let keep = pages.size.saturating_sub(*position).min((len - done) as u64) as usize;
                clear_frame(&frame, within + done + keep, len - done - keep);
                return copied;
            }
        }
        Ok(())
    }

    /// Appends to a file that nobody else has yet: the unpacking of the initramfs.
    pub fn fill(&self, bytes: &[u8]) -> Result<()> {
        let mut pages = self.pages.lock();
        for (index, chunk) in bytes.chunks(PAGE_SIZE).enumerate() {
            let frame = if chunk.len() == PAGE_SIZE { frames::alloc()? } else { frames::alloc_zeroed()? };
            // SAFETY: the frame is new, a page long, and nobody else's.
            unsafe { core::ptr::copy_nonoverlapping(chunk.as_ptr(), frame.as_ptr(), chunk.len()) };
            pages.frames.insert(index as u64, frame);
        }
        pages.size = bytes.len() as u64;
        Ok(())
    }
}

/// How large the current process may make a file, if byte `position` is within that.
fn allowed_size(position: u64) -> Result<u64> {
    let limit = current().process.rlimit(abi::RLIMIT_FSIZE).0;
    if position >= limit { Err(too_large()) } else { Ok(limit) }
}

/// Sends SIGXFSZ.
fn too_large() -> Errno {
    // A standard signal to a living task is not refused.
    let _ = signal::send::to_task(current(), SigInfo::kernel(abi::SIGXFSZ as i32));
    Errno::EFBIG
}

impl Pages {
    /// The frame of page `index`, made if there is none.
    fn frame(&mut self, index: u64) -> Result<Frame> {
        if let Some(frame) = self.frames.get(&index) {
            return Ok(frame.clone());
        }
        // Files may fill memory only so far: programs must still be able to run.
        if frames::free_bytes() < frames::total_bytes() / 16 {
            return Err(Errno::ENOSPC);
        }
        let frame = frames::alloc_zeroed()?;
        self.frames.insert(index, frame.clone());
        Ok(frame)
    }

    /// Clears what is in the last page after `size`.
    fn clear_tail(&mut self, size: u64) {
        let within = (size % PAGE) as usize;
        if within != 0
            && let Some(frame) = self.frames.get(&(size / PAGE))
        {
            clear_frame(frame, within, PAGE_SIZE - within);
        }
    }
}

fn clear_frame(frame: &Frame, offset: usize, len: usize) {
    debug_assert!(offset + len <= PAGE_SIZE);
    // SAFETY: the range is within the page, which the reference keeps.
    unsafe { core::ptr::write_bytes(frame.as_ptr().add(offset), 0, len) };
}
