//! Device nodes: which number is which device, and the simple ones.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use linux_raw_sys::{general as abi, ioctl};
use spin::Once;

use crate::errno::{Errno, Result};
use crate::fs::pty;
use crate::fs::serial::{COM2, COM3};
use crate::fs::tty;
use crate::fs::tty_file;
use crate::machine::sync::SpinLock;
use crate::memory::user;
use crate::sched::wait::{PollTable, WaitQueue};
use crate::task::system_info::fill_random;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{ALWAYS_READY, File, FileOps};
use crate::vfs::inode::{Inode, Metadata, device_number, major_minor};

/// The nodes that `/dev` has: name, permissions, number.
const NODES: [(&str, u32, u64); 10] = [
    ("null", 0o666, device_number(1, 3)),
    ("zero", 0o666, device_number(1, 5)),
    ("full", 0o666, device_number(1, 7)),
    ("random", 0o666, device_number(1, 8)),
    ("urandom", 0o666, device_number(1, 9)),
    ("tty", 0o666, device_number(5, 0)),
    ("console", 0o600, device_number(5, 1)),
    ("ptmx", 0o666, pty::PTMX),
    ("ttyS0", 0o620, device_number(4, 64)),
    ("kmsg", 0o644, device_number(1, 11)),
];

/// A device of a layer above. Its permissions are 0600.
pub struct Device {
    /// The node's name.
    pub name: &'static str,
    /// Its number.
    pub number: u64,
    /// What it does once it is open.
    pub ops: fn() -> Arc<dyn FileOps>,
}

static REGISTERED: Once<&'static [Device]> = Once::new();

/// Adds devices of a layer above. At boot, once, before the nodes are made.
pub fn register(devices: &'static [Device]) {
    REGISTERED.call_once(|| devices);
}

fn registered() -> impl Iterator<Item = &'static Device> {
    REGISTERED.get().into_iter().copied().flatten()
}

/// The nodes that `/dev` has: name, permissions, number.
pub fn nodes() -> impl Iterator<Item = (&'static str, u32, u64)> {
    NODES.into_iter().chain(registered().map(|device| (device.name, 0o600, device.number)))
}

/// Opens the device with the number `rdev`.
pub fn open(inode: Arc<dyn Inode>, file_type: u32, rdev: u64, flags: u32) -> Result<Arc<File>> {
    if file_type != abi::S_IFCHR {
        return Err(Errno::ENXIO);
    }
    let ops: Arc<dyn FileOps> = match major_minor(rdev) {
        (1, 3) => Arc::new(Memory::Null),
        (1, 5) => Arc::new(Memory::Zero),
        (1, 7) => Arc::new(Memory::Full),
        (1, 8 | 9) => Arc::new(Memory::Random),
        (1, 11) => Arc::new(KernelLog),
        (5, 0) => return tty_file::open_controlling(inode, flags),
        (5, 1) => return tty_file::open(inode, flags, false),
        (5, 2) => return pty::open_master(inode, flags),
        (136, index) => return pty::open_slave(inode, index, flags),
        (4, 64) => return tty_file::open(inode, flags, true),
        _ => registered().find(|device| device.number == rdev).map(|device| (device.ops)()).ok_or(Errno::ENXIO)?,
    };
    Ok(File::new(inode, ops, flags))
}

/// The devices that are made of nothing.
enum Memory {
    Null,
    Zero,
    Full,
    Random,
}

impl FileOps for Memory {
    fn read(&self, _file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        let result = match self {
            Memory::Null => Ok(()),
            Memory::Zero | Memory::Full => to.put_zeros(to.remaining()),
            Memory::Random => loop {
                let mut chunk = [0; 256];
                let len = to.remaining().min(chunk.len());
                if len == 0 {
                    break Ok(());
                }
                fill_random(&mut chunk[..len]);
                if let Err(error) = to.put(&chunk[..len]) {
                    break Err(error);
                }
            },
        };
        to.finish(result)
    }

    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        match self {
            Memory::Full => Err(Errno::ENOSPC),
            _ => {
                from.skip(from.remaining());
                Ok(from.done())
            }
        }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn ignores_seek(&self) -> bool {
        true
    }
}

/// `/dev/kmsg`: what is written goes to the kernel's log.
struct KernelLog;

impl FileOps for KernelLog {
    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let text = from.take_all(1024)?;
        log::info!("{}", text.trim_ascii_end().escape_ascii());
        from.skip(from.remaining());
        Ok(from.done())
    }
}

/// Bytes of the input stream that wait to be read.
const STREAM_CAPACITY: usize = 16 * 1024;

/// Escape byte of the input stream: twice, it stands for itself; before 0, for the end; before 1, for the size of the host's
/// terminal, which follows as rows and columns of two bytes each. The host doubles it in what it passes on, so that no input
/// is taken for the size.
const ESCAPE: u8 = 0xff;

/// What the next byte of the stream is.
#[derive(Clone, Copy)]
enum Expected {
    Byte,
    Escaped,
    /// That many of the four have come.
    Size([u8; 4], usize),
}

struct StreamState {
    buffer: VecDeque<u8>,
    expected: Expected,
    /// Rows and columns that have come and are not passed on yet.
    size: Option<(u16, u16)>,
    ended: bool,
    /// The port does not interrupt because nobody reads.
    throttled: bool,
}

/// The input stream: what the host sends on COM2.
struct Stream {
    state: SpinLock<StreamState>,
    readable: WaitQueue,
}

static STREAM: Stream = Stream {
    state: SpinLock::new(StreamState {
        buffer: VecDeque::new(),
        expected: Expected::Byte,
        size: None,
        ended: false,
        throttled: false,
    }),
    readable: WaitQueue::new(),
};

/// Sets up the port by which standard input and the terminal's size come. The buffer gets its room here, once: the interrupt
/// must not allocate.
pub fn init_stream() {
    let mut state = STREAM.state.lock();
    state.buffer.reserve_exact(STREAM_CAPACITY);
    if !COM2.init() {
        log::error!("the input stream is wanted, but there is no COM2");
        state.ended = true;
    }
    // The host sends from now on. What came before would be lost: enabling the port's FIFO clears it.
    crate::machine::log::tell("stdin: ready");
}

/// Bytes have come in on COM2. Interrupt context.
pub fn stream_interrupt() {
    let size = {
        let mut state = STREAM.state.lock();
        state.receive();
        state.size.take()
    };
    STREAM.readable.wake_all();
    if let Some((rows, columns)) = size {
        tty::resize(rows, columns);
    }
}

impl StreamState {
    fn receive(&mut self) {
        loop {
            if self.buffer.len() == STREAM_CAPACITY {
                self.throttled = true;
                COM2.listen(false);
                return;
            }
            let Some(byte) = COM2.receive() else { return };
            self.accept(byte);
        }
    }

    fn accept(&mut self, byte: u8) {
        self.expected = match (self.expected, byte) {
            (Expected::Byte, ESCAPE) => Expected::Escaped,
            (Expected::Byte, _) | (Expected::Escaped, ESCAPE) => {
                self.buffer.push_back(byte);
                Expected::Byte
            }
            (Expected::Escaped, 0) => {
                self.ended = true;
                Expected::Byte
            }
            (Expected::Escaped, 1) => Expected::Size([0; 4], 0),
            (Expected::Escaped, _) => {
                log::warn!("unknown escape {byte:#x} in the input stream");
                Expected::Byte
            }
            (Expected::Size([a, b, c, _], 3), d) => {
                self.size = Some((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])));
                Expected::Byte
            }
            (Expected::Size(mut bytes, count), byte) => {
                bytes[count] = byte;
                Expected::Size(bytes, count + 1)
            }
        };
    }
}

/// The stream's inode: like a pipe's.
pub struct StreamInode;

impl Inode for StreamInode {
    fn metadata(&self) -> Metadata {
        Metadata::new(device_number(0, 12), 0, abi::S_IFIFO | 0o600)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        Ok(File::new(self, Arc::new(StreamOps), flags))
    }

    fn label(&self) -> Option<alloc::vec::Vec<u8>> {
        Some(b"pipe:[0]".to_vec())
    }
}

/// The file that the first program has as its standard input with `stdin=stream`.
pub struct StreamOps;

impl FileOps for StreamOps {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        let result = self.read_into(file, to);
        to.finish(result)
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            STREAM.readable.register(table);
        }
        let state = STREAM.state.lock();
        match (state.buffer.is_empty(), state.ended) {
            (true, false) => 0,
            (true, true) => abi::POLLHUP,
            (false, false) => abi::POLLIN | abi::POLLRDNORM,
            (false, true) => abi::POLLIN | abi::POLLRDNORM | abi::POLLHUP,
        }
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        if request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let len = STREAM.state.lock().buffer.len() as u32;
        user::write(argument, &len)?;
        Ok(0)
    }
}

impl StreamOps {
    fn read_into(&self, file: &File, to: &mut Destination) -> Result<()> {
        if to.remaining() == 0 {
            return Ok(());
        }
        let ready = || {
            let state = STREAM.state.lock();
            (!state.buffer.is_empty() || state.ended).then_some(())
        };
        match file.is_nonblocking() {
            true => ready().ok_or(Errno::EAGAIN)?,
            false => STREAM.readable.wait_until(ready)?,
        }
        let mut chunk = [0; 512];
        while to.remaining() > 0 {
            let len = {
                let mut state = STREAM.state.lock();
                let len = to.remaining().min(chunk.len()).min(state.buffer.len());
                for (byte, taken) in chunk.iter_mut().zip(state.buffer.drain(..len)) {
                    *byte = taken;
                }
                if state.throttled {
                    state.throttled = false;
                    COM2.listen(true);
                }
                len
            };
            if len == 0 {
                break;
            }
            to.put(&chunk[..len])?;
        }
        Ok(())
    }
}

/// The first program's standard output and error with `stdin=stream`: the console's port, but no terminal, so that
/// programs print as they do into a pipe.
pub struct RawConsole;

impl FileOps for RawConsole {
    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let result = tty::write_raw(from, tty::send_raw);
        from.finish(result)
    }

    fn poll(&self, _file: &File, _table: Option<&PollTable>) -> u32 {
        ALWAYS_READY & !(abi::POLLIN | abi::POLLRDNORM)
    }
}

/// Serializes those who write to COM3.
static ERRORS: SpinLock<()> = SpinLock::new(());

/// Sets up the port of the standard error.
pub fn init_errors() {
    if !COM3.init_output() {
        log::error!("standard error is wanted on a port of its own, but there is no COM3");
    }
}

fn send_error(bytes: &[u8]) -> usize {
    let _guard = ERRORS.lock();
    COM3.transmit(bytes)
}

/// The inode of the first program's standard error with `stderr=stream`: like a pipe's.
pub struct ErrorInode;

impl Inode for ErrorInode {
    fn metadata(&self) -> Metadata {
        Metadata::new(device_number(0, 12), 1, abi::S_IFIFO | 0o600)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        Ok(File::new(self, Arc::new(ErrorOps), flags))
    }

    fn label(&self) -> Option<alloc::vec::Vec<u8>> {
        Some(b"pipe:[1]".to_vec())
    }
}

/// The file that the first program has as its standard error with `stderr=stream`.
pub struct ErrorOps;

impl FileOps for ErrorOps {
    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let result = tty::write_raw(from, send_error);
        from.finish(result)
    }

    fn poll(&self, _file: &File, _table: Option<&PollTable>) -> u32 {
        ALWAYS_READY & !(abi::POLLIN | abi::POLLRDNORM)
    }
}
