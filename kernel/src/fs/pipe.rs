//! Pipes and fifos: 64 KiB of frames between readers and writers.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;

use linux_raw_sys::{general as abi, ioctl};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::frames::Frame;
use crate::memory::new_ino;
use crate::memory::{frames, user};
use crate::sched::wait::{PollTable, WaitQueue};
use crate::signal;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::{AttributeChange, Inode, Metadata};
use crate::vfs::sleep_lock::SleepLock;

/// Bytes in a page.
const PAGE_SIZE: usize = crate::memory::PAGE_SIZE as usize;
/// Frames in a pipe.
const SLOTS: usize = 16;
/// Bytes that a pipe holds.
pub const CAPACITY: usize = SLOTS * PAGE_SIZE;
/// Writes up to this size do not mix with others.
const PIPE_BUF: usize = 4096;

/// What changes under the lock. The bytes from `head` on, `len` of them, belong to the reader; the rest to the writer.
struct State {
    head: usize,
    len: usize,
    readers: usize,
    writers: usize,
    /// How many readers and writers there ever were: an open that waits for a partner also sees one that has left.
    readers_seen: u64,
    writers_seen: u64,
}

impl State {
    /// How many ends of the other kind there are, and how many there ever were: writers for one that reads.
    fn partners(&self, reads: bool) -> (usize, u64) {
        if reads { (self.writers, self.writers_seen) } else { (self.readers, self.readers_seen) }
    }
}

/// The pipe between two or more ends.
///
/// `reading` and `writing` admit one reader and one writer at a time. They are held while bytes are copied (which may
/// fault and sleep), not while waiting for bytes or room; `state` says which bytes are whose.
pub struct Pipe {
    state: SpinLock<State>,
    reading: SleepLock<()>,
    writing: SleepLock<()>,
    slots: UnsafeCell<[Option<Frame>; SLOTS]>,
    readable: WaitQueue,
    writable: WaitQueue,
}

// SAFETY: `slots` is changed only by the holder of `writing`, only in slots that hold no bytes of the reader; the
// reader reads only slots that the writer has published through `state`.
unsafe impl Sync for Pipe {}
// SAFETY: all parts may move between threads.
unsafe impl Send for Pipe {}

impl Pipe {
    /// A pipe without ends.
    pub fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            state: SpinLock::new(State { head: 0, len: 0, readers: 0, writers: 0, readers_seen: 0, writers_seen: 0 }),
            reading: SleepLock::new(()),
            writing: SleepLock::new(()),
            slots: UnsafeCell::new([const { None }; SLOTS]),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
        })
    }

    /// A new end.
    pub fn end(self: &Arc<Self>, reads: bool, writes: bool) -> PipeEnd {
        let mut state = self.state.lock();
        state.readers += reads as usize;
        state.readers_seen += reads as u64;
        state.writers += writes as usize;
        state.writers_seen += writes as u64;
        let (partners, seen) = state.partners(reads);
        PipeEnd { pipe: self.clone(), reads, writes, alone_after: if partners == 0 { seen } else { u64::MAX } }
    }

    /// The end or ends that a name is opened for with these flags. Whoever waits for them is told.
    fn open(self: &Arc<Self>, flags: u32) -> PipeEnd {
        let mode = flags & abi::O_ACCMODE;
        let end = self.end(mode != abi::O_WRONLY, mode != abi::O_RDONLY);
        self.readable.wake_all();
        self.writable.wake_all();
        end
    }

    /// Copies what is there, up to what is wanted. None: nothing was there.
    fn read_available(&self, to: &mut Destination) -> Option<Result<()>> {
        let _reading = self.reading.lock();
        let (mut head, len) = {
            let state = self.state.lock();
            (state.head, state.len.min(to.remaining()))
        };
        if len == 0 {
            return None;
        }
        let before = to.done();
        let mut result = Ok(());
        while result.is_ok() && to.done() - before < len {
            let within = head % PAGE_SIZE;
            let piece = (PAGE_SIZE - within).min(len - (to.done() - before));
            // SAFETY: bytes between `head` and `head + len` are ours, so their slot is filled and does not change.
            let slot = unsafe { &(&*self.slots.get())[head / PAGE_SIZE] };
            let Some(frame) = slot else { break };
            // SAFETY: within the frame; see above.
            result = unsafe { to.put_raw(frame.as_ptr().add(within), piece) };
            head = (head + piece) % CAPACITY;
        }
        let copied = to.done() - before;
        let mut state = self.state.lock();
        state.head = (state.head + copied) % CAPACITY;
        state.len -= copied;
        Some(result)
    }

    /// Copies as much as there is room for. None: no room (for all of a write that must not be split).
    fn write_available(&self, from: &mut Source) -> Option<Result<()>> {
        let _writing = self.writing.lock();
        let wanted = from.remaining();
        let (mut tail, len) = {
            let mut state = self.state.lock();
            if state.len == 0 {
                // An empty pipe starts over, so that a little traffic touches few frames.
                state.head = 0;
            }
            let room = CAPACITY - state.len;
            if room == 0 || room < wanted && wanted <= PIPE_BUF {
                return None;
            }
            ((state.head + state.len) % CAPACITY, wanted.min(room))
        };
        let before = from.done();
        let mut result = Ok(());
        while result.is_ok() && from.done() - before < len {
            let within = tail % PAGE_SIZE;
            let piece = (PAGE_SIZE - within).min(len - (from.done() - before));
            // SAFETY: only the holder of `writing` makes frames, and this slot's free part is ours.
            let frame = match unsafe { Self::slot_for_writing(self.slots.get(), tail / PAGE_SIZE) } {
                Ok(frame) => frame,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            // SAFETY: bytes from `tail` on, `len` of them, are free, so no reader looks at them.
            result = unsafe { from.take_raw(frame.add(within), piece) };
            tail = (tail + piece) % CAPACITY;
        }
        self.state.lock().len += from.done() - before;
        Some(result)
    }

    /// # Safety
    /// The caller holds `writing`, and the slot has free bytes for it.
    unsafe fn slot_for_writing(slots: *mut [Option<Frame>; SLOTS], index: usize) -> Result<*mut u8> {
        // SAFETY: a pointer to one slot; the reader may hold a reference to it only if it is filled, and then it is
        // not written here.
        let slot = unsafe { &raw mut (*slots)[index] };
        // SAFETY: as above.
        if let Some(frame) = unsafe { &*slot } {
            return Ok(frame.as_ptr());
        }
        let frame = frames::alloc()?;
        let pointer = frame.as_ptr();
        // SAFETY: an empty slot holds no bytes, so nobody else looks at it.
        unsafe { *slot = Some(frame) };
        Ok(pointer)
    }
}

/// One end of a pipe (both for a fifo opened `O_RDWR`).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// How many partners there had been when it was opened without one; else [`u64::MAX`].
    alone_after: u64,
}

impl PipeEnd {
    /// Whether there is a partner, or has been one since this end was opened. Until then a fifo's open waits, and a reader
    /// sees no hang-up.
    fn has_met(&self, state: &State) -> bool {
        let (partners, seen) = state.partners(self.reads);
        partners > 0 || seen != self.alone_after
    }

    /// Reads, waiting for bytes unless `nonblocking`.
    pub fn read(&self, to: &mut Destination, nonblocking: bool) -> Result<usize> {
        let pipe = &*self.pipe;
        if to.remaining() == 0 {
            return Ok(0);
        }
        loop {
            if let Some(result) = pipe.read_available(to) {
                pipe.writable.wake_all();
                return to.finish(result);
            }
            let ended = |state: &State| state.len == 0 && state.writers == 0;
            if ended(&pipe.state.lock()) {
                return Ok(0);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            pipe.readable.wait_until(|| {
                let state = pipe.state.lock();
                (state.len > 0 || state.writers == 0).then_some(())
            })?;
        }
    }

    /// Writes all, waiting for room unless `nonblocking`.
    pub fn write(&self, from: &mut Source, nonblocking: bool) -> Result<usize> {
        let result = self.write_all(from, nonblocking);
        from.finish(result)
    }

    fn write_all(&self, from: &mut Source, nonblocking: bool) -> Result<()> {
        let pipe = &*self.pipe;
        while from.remaining() > 0 {
            if pipe.state.lock().readers == 0 {
                if from.done() == 0 {
                    raise_sigpipe();
                }
                return Err(Errno::EPIPE);
            }
            match pipe.write_available(from) {
                Some(result) => {
                    pipe.readable.wake_all();
                    result?;
                }
                None if nonblocking => return Err(Errno::EAGAIN),
                None => {
                    let remaining = from.remaining();
                    let needed = if remaining <= PIPE_BUF { remaining } else { 1 };
                    pipe.writable.wait_until(|| {
                        let state = pipe.state.lock();
                        (CAPACITY - state.len >= needed || state.readers == 0).then_some(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The events that are true now.
    pub fn events(&self, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            if self.reads {
                self.pipe.readable.register(table);
            }
            if self.writes {
                self.pipe.writable.register(table);
            }
        }
        let state = self.pipe.state.lock();
        let mut events = 0;
        if self.reads {
            if state.len > 0 {
                events |= abi::POLLIN | abi::POLLRDNORM;
            }
            if state.writers == 0 && self.has_met(&state) {
                events |= abi::POLLHUP;
            }
        }
        if self.writes {
            if CAPACITY - state.len >= PIPE_BUF {
                events |= abi::POLLOUT | abi::POLLWRNORM;
            }
            if state.readers == 0 {
                events |= abi::POLLERR;
            }
        }
        events
    }

    /// Bytes that wait to be read.
    pub fn len(&self) -> usize {
        self.pipe.state.lock().len
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        {
            let mut state = self.pipe.state.lock();
            state.readers -= self.reads as usize;
            state.writers -= self.writes as usize;
            if state.readers + state.writers == 0 {
                // A fifo does not keep what nobody read.
                state.len = 0;
            }
        }
        self.pipe.readable.wake_all();
        self.pipe.writable.wake_all();
    }
}

impl FileOps for PipeEnd {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        PipeEnd::read(self, to, file.is_nonblocking())
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        PipeEnd::write(self, from, file.is_nonblocking())
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        self.events(table)
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        match request {
            ioctl::FIONREAD => {
                user::write(argument, &(self.len() as u32))?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}

/// A fifo: a pipe with a name.
pub struct Fifo(Arc<Pipe>);

impl Fifo {
    /// A fifo that nobody has open.
    pub fn new() -> Self {
        Fifo(Pipe::new())
    }

    /// Opens an end of it, waiting for the other as `fifo(7)` has it.
    pub fn open(&self, inode: Arc<dyn Inode>, flags: u32) -> Result<Arc<File>> {
        let pipe = &self.0;
        let mode = flags & abi::O_ACCMODE;
        let nonblocking = flags & abi::O_NONBLOCK != 0;
        if mode == abi::O_WRONLY && nonblocking && pipe.state.lock().readers == 0 {
            return Err(Errno::ENXIO);
        }
        let end = pipe.open(flags);
        if !nonblocking && mode != abi::O_RDWR {
            let queue = if end.reads { &pipe.readable } else { &pipe.writable };
            queue.wait_until(|| end.has_met(&pipe.state.lock()).then_some(()))?;
        }
        Ok(File::new(inode, Arc::new(end), flags))
    }
}

/// The inode of a pipe that has no name.
struct PipeInode {
    metadata: SpinLock<Metadata>,
    pipe: Arc<Pipe>,
}

impl Inode for PipeInode {
    fn metadata(&self) -> Metadata {
        *self.metadata.lock()
    }

    /// By way of `/proc/PID/fd`. It has had both ends, so unlike a fifo's this open waits for nobody; an end without the
    /// other is hung up from the start.
    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        let mut end = self.pipe.open(flags);
        end.alone_after = u64::MAX;
        Ok(File::new(self, Arc::new(end), flags))
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.metadata.lock().apply(change);
        Ok(())
    }

    fn label(&self) -> Option<Vec<u8>> {
        Some(format!("pipe:[{}]", self.metadata().ino).into_bytes())
    }

    fn file_system(&self) -> u32 {
        abi::PIPEFS_MAGIC
    }
}

/// The device number of the pipes' file system.
const DEVICE: u64 = crate::vfs::inode::device_number(0, 12);

/// Makes a pipe: its reading and its writing end.
pub fn new_pipe(flags: u32) -> (Arc<File>, Arc<File>) {
    let pipe = Pipe::new();
    let metadata = Metadata::new(DEVICE, new_ino(), abi::S_IFIFO | 0o600);
    let inode = Arc::new(PipeInode { metadata: SpinLock::new(metadata), pipe: pipe.clone() });
    let reader = File::new(inode.clone(), Arc::new(pipe.end(true, false)), flags | abi::O_RDONLY);
    let writer = File::new(inode, Arc::new(pipe.end(false, true)), flags | abi::O_WRONLY);
    // The reader was made when there was no writer yet; for a pipe, none is still a hang-up.
    (reader, writer)
}

/// Tells the current task that it writes to nobody.
pub fn raise_sigpipe() {
    signal::send::to_current(abi::SIGPIPE as i32);
}

#[cfg(test)]
mod tests;
