//! Open files: what a descriptor refers to.

use alloc::string::String;
use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use linux_raw_sys::general as abi;
use spin::Once;

use crate::errno::{Errno, Result};
use crate::sched::wait::PollTable;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::inode::{EntrySink, Inode};
use crate::vfs::mount::{Location, Mount};
use crate::vfs::sleep_lock::SleepLock;

/// The status flags that `fcntl(F_SETFL)` may change.
const SETTABLE: u32 = abi::O_APPEND | abi::O_NONBLOCK | abi::O_DIRECT | abi::O_NOATIME | abi::FASYNC;

/// Ready for anything: what files without waiting report to `poll`.
pub const ALWAYS_READY: u32 = abi::POLLIN | abi::POLLOUT | abi::POLLRDNORM | abi::POLLWRNORM;

/// What an open file does. The defaults answer as Linux does where a kind of file has no such operation.
///
/// `position` is where a seekable file's transfer begins, and is moved by what was transferred; other files ignore
/// it. Interruptible waits end with ERESTARTSYS.
pub trait FileOps: Send + Sync {
    /// True if the file has a position.
    fn seekable(&self) -> bool {
        false
    }

    /// True if `lseek` is allowed but does nothing.
    fn ignores_seek(&self) -> bool {
        false
    }

    /// Moves bytes from the file to `to`; 0 is the end of the file.
    fn read(&self, _file: &File, _to: &mut Destination, _position: &mut u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Moves bytes to the file.
    fn write(&self, _file: &File, _from: &mut Source, _position: &mut u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// The `POLL*` events that are true now; with a table, also registers to be woken when that changes.
    fn poll(&self, _file: &File, _table: Option<&PollTable>) -> u32 {
        ALWAYS_READY
    }

    /// Device control.
    fn ioctl(&self, _file: &File, _request: u32, _argument: u64) -> Result<usize> {
        Err(Errno::ENOTTY)
    }

    /// Entries of a directory, as [`Inode::readdir`].
    fn readdir(&self, _file: &File, _position: u64, _sink: &mut EntrySink) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Writes what `/proc/PID/fdinfo/N` says about this kind of file beyond the usual, in lines.
    fn describe(&self, _file: &File, _out: &mut String) {}

    /// Changes with each event of a file that may become ready again before anybody has seen that it was not: edge-triggered
    /// entries of `epoll` report each.
    fn edges(&self) -> u64 {
        0
    }

    /// The object behind special descriptors, so that calls that need one (`epoll_ctl`) find their own kind.
    fn as_any(&self) -> Option<&dyn core::any::Any> {
        None
    }
}

/// An open file ("open file description"): shared by the descriptors that `dup` and `fork` make.
pub struct File {
    inode: Arc<dyn Inode>,
    /// The mount by which it was opened.
    mount: Once<Arc<Mount>>,
    ops: Arc<dyn FileOps>,
    flags: AtomicU32,
    position: SleepLock<u64>,
    owner: AtomicI32,
    signal: AtomicU32,
    /// Whether the inode counts it as a writer.
    is_counted: bool,
}

impl File {
    /// An open file with the status flags `flags`; flags that matter only while opening are dropped.
    pub fn new(inode: Arc<dyn Inode>, ops: Arc<dyn FileOps>, flags: u32) -> Arc<File> {
        File::with_count(inode, ops, flags, false)
    }

    /// The same for a file in which programs may be. ETXTBSY if it would write to one that runs.
    pub fn counted(inode: Arc<dyn Inode>, ops: Arc<dyn FileOps>, flags: u32) -> Result<Arc<File>> {
        let writes = flags & abi::O_ACCMODE != abi::O_RDONLY;
        if writes && let Some(count) = inode.write_count() {
            count.begin()?;
        }
        Ok(File::with_count(inode, ops, flags, writes))
    }

    fn with_count(inode: Arc<dyn Inode>, ops: Arc<dyn FileOps>, flags: u32, is_counted: bool) -> Arc<File> {
        let flags = flags & !(abi::O_CREAT | abi::O_EXCL | abi::O_NOCTTY | abi::O_TRUNC | abi::O_CLOEXEC);
        Arc::new(File {
            inode,
            mount: Once::new(),
            ops,
            flags: AtomicU32::new(flags),
            position: SleepLock::new(0),
            owner: AtomicI32::new(0),
            signal: AtomicU32::new(0),
            is_counted,
        })
    }

    /// What stands for its inode among locks.
    pub fn inode_key(&self) -> usize {
        Arc::as_ptr(&self.inode).addr()
    }

    /// What it is open on.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// What it is open on, and the mount by which it was opened.
    pub fn location(&self) -> Location {
        Location { mount: self.mount.get().cloned(), inode: self.inode.clone() }
    }

    /// Notes the mount by which it was opened. The first one stays.
    pub fn opened_by(&self, mount: Option<Arc<Mount>>) {
        if let Some(mount) = mount {
            self.mount.call_once(|| mount);
        }
    }

    /// Its operations.
    pub fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }

    /// Access mode and status flags, as `fcntl(F_GETFL)` reports them.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// `fcntl(F_SETFL)`: changes the flags that may change.
    pub fn set_flags(&self, flags: u32) {
        let _ = self
            .flags
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some((old & !SETTABLE) | (flags & SETTABLE)));
    }

    /// `O_NONBLOCK` is set.
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & abi::O_NONBLOCK != 0
    }

    /// Open for reading.
    pub fn is_readable(&self) -> bool {
        self.flags() & abi::O_PATH == 0 && self.flags() & abi::O_ACCMODE != abi::O_WRONLY
    }

    /// Open for writing.
    pub fn is_writable(&self) -> bool {
        self.flags() & abi::O_PATH == 0 && self.flags() & abi::O_ACCMODE != abi::O_RDONLY
    }

    /// Only names its inode (`O_PATH`).
    pub fn is_path(&self) -> bool {
        self.flags() & abi::O_PATH != 0
    }

    /// `fcntl(F_GETOWN)`: a process, or a group if negative. Kept for those who ask; no file sends signals.
    pub fn owner(&self) -> i32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// `fcntl(F_SETOWN)`.
    pub fn set_owner(&self, owner: i32) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// `fcntl(F_GETSIG)`.
    pub fn signal(&self) -> u32 {
        self.signal.load(Ordering::Relaxed)
    }

    /// `fcntl(F_SETSIG)`.
    pub fn set_signal(&self, signal: u32) {
        self.signal.store(signal, Ordering::Relaxed);
    }

    /// Reads at the file's own position.
    pub fn read(&self, to: &mut Destination) -> Result<usize> {
        if !self.is_readable() {
            return Err(Errno::EBADF);
        }
        if !self.ops.seekable() {
            return self.ops.read(self, to, &mut 0);
        }
        let mut position = self.position.lock();
        self.ops.read(self, to, &mut position)
    }

    /// Writes at the file's own position.
    pub fn write(&self, from: &mut Source) -> Result<usize> {
        if !self.is_writable() {
            return Err(Errno::EBADF);
        }
        if !self.ops.seekable() {
            return self.ops.write(self, from, &mut 0);
        }
        let mut position = self.position.lock();
        self.ops.write(self, from, &mut position)
    }

    /// Reads at `position`, without the file's own.
    pub fn read_at(&self, to: &mut Destination, mut position: u64) -> Result<usize> {
        self.check_positioned(position)?;
        if !self.is_readable() {
            return Err(Errno::EBADF);
        }
        self.ops.read(self, to, &mut position)
    }

    /// Writes at `position`, without the file's own.
    pub fn write_at(&self, from: &mut Source, mut position: u64) -> Result<usize> {
        self.check_positioned(position)?;
        if !self.is_writable() {
            return Err(Errno::EBADF);
        }
        self.ops.write(self, from, &mut position)
    }

    /// Reads into a buffer of the kernel's: for `execve`. Short only at the end of the file.
    pub fn read_kernel(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let count = self.read_at(&mut Destination::kernel(&mut buffer[done..]), position + done as u64)?;
            if count == 0 {
                break;
            }
            done += count;
        }
        Ok(done)
    }

    fn check_positioned(&self, position: u64) -> Result<()> {
        if (position as i64) < 0 {
            return Err(Errno::EINVAL);
        }
        if !self.ops.seekable() {
            return Err(Errno::ESPIPE);
        }
        Ok(())
    }

    /// The `POLL*` events that are true now; with a table, also registers for their change.
    pub fn poll(&self, table: Option<&PollTable>) -> u32 {
        self.ops.poll(self, table)
    }

    /// `lseek`.
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.ops.ignores_seek() {
            return Ok(0);
        }
        if !self.ops.seekable() {
            return Err(Errno::ESPIPE);
        }
        let mut position = self.position.lock();
        let size = || self.inode.metadata().size as i64;
        let target = match whence {
            abi::SEEK_SET => Some(offset),
            abi::SEEK_CUR => (*position as i64).checked_add(offset),
            abi::SEEK_END => size().checked_add(offset),
            // No holes are reported: all up to the end is data.
            abi::SEEK_DATA | abi::SEEK_HOLE if offset < 0 || offset >= size() => return Err(Errno::ENXIO),
            abi::SEEK_DATA => Some(offset),
            abi::SEEK_HOLE => Some(size()),
            _ => None,
        };
        match target {
            Some(target) if target >= 0 => {
                *position = target as u64;
                Ok(target as u64)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Reports entries of the directory from the file's position on, and moves it.
    pub fn readdir(&self, sink: &mut EntrySink) -> Result<()> {
        if !self.is_readable() {
            return Err(Errno::EBADF);
        }
        let mut position = self.position.lock();
        let start = *position;
        self.ops.readdir(self, start, &mut |entry| {
            let next = entry.next;
            let taken = sink(entry);
            if taken {
                *position = next;
            }
            taken
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        crate::vfs::locks::released(ptr::from_ref(self).addr());
        if self.is_counted
            && let Some(count) = self.inode.write_count()
        {
            count.end();
        }
    }
}

/// The operations of an open directory of any file system.
pub struct DirectoryOps;

impl FileOps for DirectoryOps {
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, _to: &mut Destination, _position: &mut u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn readdir(&self, file: &File, position: u64, sink: &mut EntrySink) -> Result<()> {
        if file.inode().is_unlinked() {
            return Err(Errno::ENOENT);
        }
        file.inode().readdir(position, sink)
    }
}

/// The operations of an `O_PATH` descriptor: none.
pub struct PathOps;

impl FileOps for PathOps {}
