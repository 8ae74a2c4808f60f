//! Descriptor tables.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr;

use spin::Once;

use crate::errno::{Errno, Result};
use crate::machine::nospec;
use crate::machine::sync::SpinLock;
use crate::memory::frames;
use crate::vfs::file::File;
use crate::vfs::locks;

/// The most descriptors a table can have, whatever the limit says (Linux's `fs.nr_open`).
pub const MAX_DESCRIPTORS: u64 = 1024 * 1024;

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    close_on_exec: bool,
}

#[derive(Clone)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// All slots below are taken.
    first_free: usize,
}

impl Slots {
    fn slot(&self, fd: u64) -> Result<&Slot> {
        nospec::get(&self.slots, fd as u32).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// Makes room for `fd`. What programs choose may be more than there is memory for.
    fn reach(&mut self, fd: usize) -> Result<()> {
        if fd >= self.slots.len() {
            // Whoever has ever more files open takes ever more memory for them.
            frames::require_spare()?;
            let more = fd + 1 - self.slots.len();
            if more > self.slots.capacity() - self.slots.len() {
                // The allocator may double it.
                frames::require(2 * (fd as u64 + 1) * size_of::<Option<Slot>>() as u64)?;
            }
            self.slots.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize(fd + 1, None);
        }
        Ok(())
    }

    /// The lowest free descriptor that is at least `minimum`.
    fn lowest_free(&self, minimum: usize) -> usize {
        let start = self.first_free.max(minimum);
        let fd = (start..self.slots.len()).find(|&fd| self.slots[fd].is_none());
        fd.unwrap_or_else(|| start.max(self.slots.len()))
    }

    fn take(&mut self, fd: usize) -> Option<Arc<File>> {
        let slot = self.slots.get_mut(fd)?.take()?;
        self.first_free = self.first_free.min(fd);
        Some(slot.file)
    }
}

/// A table of descriptors, shared by the threads of a process (`CLONE_FILES`).
pub struct FdTable {
    slots: SpinLock<Slots>,
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        FdTable { slots: SpinLock::new(Slots { slots: Vec::new(), first_free: 0 }) }
    }

    /// A copy, for `fork`: the open files are shared.
    pub fn duplicate(&self) -> Result<Self> {
        let table = self.slots.lock();
        frames::require(size_of_val(&*table.slots) as u64)?;
        Ok(FdTable { slots: SpinLock::new(table.clone()) })
    }

    /// The file of `fd`; EBADF for one that was opened with `O_PATH`.
    pub fn get(&self, fd: u64) -> Result<Arc<File>> {
        let file = self.get_any(fd)?;
        if file.is_path() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// The file of `fd`, `O_PATH` or not.
    pub fn get_any(&self, fd: u64) -> Result<Arc<File>> {
        Ok(self.slots.lock().slot(fd)?.file.clone())
    }

    /// Puts `file` at the lowest free descriptor that is at least `minimum`; EMFILE when that reaches `limit`.
    pub fn install_from(&self, file: Arc<File>, close_on_exec: bool, minimum: u64, limit: u64) -> Result<u64> {
        let mut table = self.slots.lock();
        let fd = table.lowest_free(minimum as usize);
        if fd as u64 >= limit.min(MAX_DESCRIPTORS) {
            return Err(Errno::EMFILE);
        }
        table.reach(fd)?;
        table.slots[fd] = Some(Slot { file, close_on_exec });
        if minimum as usize <= table.first_free {
            table.first_free = fd + 1;
        }
        Ok(fd as u64)
    }

    /// Puts `file` at the lowest free descriptor below the calling process's limit.
    pub fn install(&self, file: Arc<File>, close_on_exec: bool) -> Result<u64> {
        self.install_from(file, close_on_exec, 0, descriptor_limit())
    }

    /// EMFILE if all descriptors below the calling process's limit are taken: for who would lose what it installs.
    pub fn require_room(&self) -> Result<()> {
        let limit = descriptor_limit().min(MAX_DESCRIPTORS);
        let lowest = self.slots.lock().lowest_free(0);
        if (lowest as u64) < limit { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Puts `file` at `fd`, closing what was there.
    pub fn assign(&self, fd: u64, file: Arc<File>, close_on_exec: bool) -> Result<()> {
        if fd >= descriptor_limit().min(MAX_DESCRIPTORS) {
            return Err(Errno::EBADF);
        }
        self.put_with(fd as usize, file, close_on_exec)
    }

    /// Puts `file` at `fd` of a table that is being made.
    pub fn put(&self, fd: u64, file: Arc<File>) -> Result<()> {
        self.put_with(fd as usize, file, false)
    }

    fn put_with(&self, fd: usize, file: Arc<File>, close_on_exec: bool) -> Result<()> {
        let old = {
            let mut table = self.slots.lock();
            table.reach(fd)?;
            table.slots[fd].replace(Slot { file, close_on_exec })
        };
        // Outside the lock: the last reference of a file may have to wake others.
        if let Some(old) = old {
            locks::closed(ptr::from_ref(self).addr(), old.file.inode_key());
        }
        Ok(())
    }

    /// Takes `fd` out of the table.
    pub fn close(&self, fd: u64) -> Result<()> {
        let file = self.slots.lock().take(fd as u32 as usize).ok_or(Errno::EBADF)?;
        locks::closed(ptr::from_ref(self).addr(), file.inode_key());
        Ok(())
    }

    /// Close-on-exec flag of `fd`.
    pub fn close_on_exec(&self, fd: u64) -> Result<bool> {
        Ok(self.slots.lock().slot(fd)?.close_on_exec)
    }

    /// Sets the close-on-exec flag of `fd`.
    pub fn set_close_on_exec(&self, fd: u64, value: bool) -> Result<()> {
        let mut table = self.slots.lock();
        table.slot(fd)?;
        if let Some(slot) = &mut table.slots[fd as u32 as usize] {
            slot.close_on_exec = value;
        }
        Ok(())
    }

    /// Closes what `execve` closes.
    pub fn close_for_exec(&self) {
        self.close_where(0, usize::MAX, |slot| slot.close_on_exec);
    }

    /// Closes all descriptors from `first` to `last`.
    pub fn close_range(&self, first: u64, last: u64) {
        self.close_where(first as usize, last as usize, |_| true);
    }

    fn close_where(&self, first: usize, last: usize, condition: impl Fn(&Slot) -> bool) {
        let mut fd = first;
        loop {
            let file = {
                let mut table = self.slots.lock();
                let end = table.slots.len().min(last.saturating_add(1));
                let Some(found) = (fd..end).find(|&fd| table.slots[fd].as_ref().is_some_and(&condition)) else {
                    return;
                };
                fd = found + 1;
                table.take(found)
            };
            if let Some(file) = file {
                locks::closed(ptr::from_ref(self).addr(), file.inode_key());
            }
        }
    }

    /// Marks all descriptors from `first` to `last` to be closed by `execve`.
    pub fn close_range_on_exec(&self, first: u64, last: u64) {
        let mut table = self.slots.lock();
        let end = (table.slots.len() as u64).min(last.saturating_add(1));
        for fd in first..end {
            if let Some(slot) = &mut table.slots[fd as usize] {
                slot.close_on_exec = true;
            }
        }
    }

    /// The descriptors in use, for `/proc/PID/fd`.
    pub fn descriptors(&self) -> Vec<u64> {
        let table = self.slots.lock();
        (0..table.slots.len()).filter(|&fd| table.slots[fd].is_some()).map(|fd| fd as u64).collect()
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        // POSIX locks belong to the table (the process), so they end here, not with the open files.
        self.close_where(0, usize::MAX, |_| true);
    }
}

static LIMIT: Once<fn() -> u64> = Once::new();

/// Says what the calling process's `RLIMIT_NOFILE` is. At boot, once.
pub fn register_limit(limit: fn() -> u64) {
    LIMIT.call_once(|| limit);
}

/// How many descriptors the calling process may have.
pub fn descriptor_limit() -> u64 {
    LIMIT.get().map_or(MAX_DESCRIPTORS, |limit| limit())
}

#[cfg(test)]
mod tests;
