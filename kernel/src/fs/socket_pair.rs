//! `socketpair`: two connected stream sockets, each a pipe in either direction. Those that keep messages apart are in
//! `packet_pair`; there are no other sockets.

use alloc::format;
use alloc::sync::Arc;

use linux_raw_sys::{errno, general as abi, ioctl};

use crate::errno::{Errno, Result};
use crate::fs::pipe::{Pipe, PipeEnd};
use crate::machine::sync::SpinLock;
use crate::memory::{new_ino, user};
use crate::sched::wait::PollTable;
use crate::vfs::anonymous::AnonymousInode;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};

/// One end: where it reads and where it writes, until that is shut down.
pub struct Socket {
    input: SpinLock<Option<Arc<PipeEnd>>>,
    output: SpinLock<Option<Arc<PipeEnd>>>,
}

impl FileOps for Socket {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        let input = self.input.lock().clone();
        input.map_or(Ok(0), |input| input.read(to, file.is_nonblocking()))
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let output = self.output.lock().clone();
        match output {
            Some(output) => output.write(from, file.is_nonblocking()),
            None => {
                super::pipe::raise_sigpipe();
                Err(Errno::EPIPE)
            }
        }
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        let (input, output) = (self.input.lock().clone(), self.output.lock().clone());
        let read = input.map_or(abi::POLLHUP, |input| input.events(table));
        let write = output.map_or(abi::POLLERR | abi::POLLOUT | abi::POLLWRNORM, |output| output.events(table));
        let mut events = (read | write) & (abi::POLLIN | abi::POLLRDNORM | abi::POLLOUT | abi::POLLWRNORM);
        if read & abi::POLLHUP != 0 {
            // A socket whose other side writes no more can be read, to its end.
            events |= abi::POLLIN | abi::POLLRDNORM | abi::POLLRDHUP;
            if write & abi::POLLERR != 0 {
                events |= abi::POLLHUP;
            }
        }
        events
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        if request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let input = self.input.lock().clone();
        user::write(argument, &(input.map_or(0, |input| input.len()) as u32))?;
        Ok(0)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}

/// Two connected stream sockets. `flags`: O_NONBLOCK, which both get, or 0.
pub fn new_socket_pair(flags: u32) -> (Arc<File>, Arc<File>) {
    let pipes = [Pipe::new(), Pipe::new()];
    let make = |input: &Arc<Pipe>, output: &Arc<Pipe>| {
        let ino = new_ino();
        let label = format!("socket:[{ino}]").into_bytes();
        let socket = Socket {
            input: SpinLock::new(Some(Arc::new(input.end(true, false)))),
            output: SpinLock::new(Some(Arc::new(output.end(false, true)))),
        };
        let inode = AnonymousInode::new(abi::S_IFSOCK | 0o777, ino, label);
        File::new(inode, Arc::new(socket), abi::O_RDWR | flags)
    };
    (make(&pipes[0], &pipes[1]), make(&pipes[1], &pipes[0]))
}

/// The stream socket behind an open file; ENOTSOCK for any other.
pub fn socket_of(file: &File) -> Result<&Socket> {
    file.ops().as_any().and_then(|ops| ops.downcast_ref()).ok_or(Errno(errno::ENOTSOCK as usize))
}

impl Socket {
    /// Gives up reading, writing, or both.
    pub fn shut_down(&self, reads: bool, writes: bool) {
        // Dropped without the lock: that wakes the other side.
        let _input = if reads { self.input.lock().take() } else { None };
        let _output = if writes { self.output.lock().take() } else { None };
    }
}
