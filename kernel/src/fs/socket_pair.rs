//! `socketpair`: two connected stream sockets, each a pipe in either direction. Those that keep messages apart are in
//! `packet_pair`; there are no other sockets.

use alloc::format;
use alloc::sync::Arc;

use linux_raw_sys::{errno, general as abi, ioctl};

use crate::errno::{Errno, Result};
use crate::fs::install_pair;
use crate::fs::packet_pair;
use crate::fs::pipe::{Pipe, PipeEnd};
use crate::machine::sync::SpinLock;
use crate::memory::{new_ino, user};
use crate::sched::wait::PollTable;
use crate::task::current;
use crate::vfs::anonymous::AnonymousInode;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};

const AF_UNIX: u32 = 1;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_SEQPACKET: u32 = 5;
/// `shutdown`: what is given up.
const SHUT_RD: u32 = 0;
const SHUT_WR: u32 = 1;
const SHUT_RDWR: u32 = 2;

/// One end: where it reads and where it writes, until that is shut down.
struct Socket {
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

/// `socketpair`: unnamed sockets of the local kind.
pub fn sys_socketpair(family: u64, kind: u64, protocol: u64, address: u64) -> Result<usize> {
    let flags = kind as u32 & (abi::O_CLOEXEC | abi::O_NONBLOCK);
    if family as u32 != AF_UNIX {
        return Err(Errno(errno::EAFNOSUPPORT as usize));
    }
    let kind = kind as u32 & !flags;
    if ![SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].contains(&kind) {
        return Err(Errno(errno::ESOCKTNOSUPPORT as usize));
    }
    if protocol != 0 && protocol as u32 != AF_UNIX {
        return Err(Errno(errno::EPROTONOSUPPORT as usize));
    }
    if kind != SOCK_STREAM {
        let (first, second) = packet_pair::pair(flags);
        return install_pair(first, second, flags & abi::O_CLOEXEC != 0, address);
    }
    let pipes = [Pipe::new(), Pipe::new()];
    let make = |input: &Arc<Pipe>, output: &Arc<Pipe>| {
        let ino = new_ino();
        let label = format!("socket:[{ino}]").into_bytes();
        let socket = Socket {
            input: SpinLock::new(Some(Arc::new(input.end(true, false)))),
            output: SpinLock::new(Some(Arc::new(output.end(false, true)))),
        };
        let inode = AnonymousInode::new(abi::S_IFSOCK | 0o777, ino, label);
        File::new(inode, Arc::new(socket), abi::O_RDWR | flags & abi::O_NONBLOCK)
    };
    let (first, second) = (make(&pipes[0], &pipes[1]), make(&pipes[1], &pipes[0]));
    install_pair(first, second, flags & abi::O_CLOEXEC != 0, address)
}

/// `shutdown`.
pub fn sys_shutdown(fd: u64, how: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket =
        file.ops().as_any().and_then(|ops| ops.downcast_ref::<Socket>()).ok_or(Errno(errno::ENOTSOCK as usize))?;
    let (reads, writes) = match how as u32 {
        SHUT_RD => (true, false),
        SHUT_WR => (false, true),
        SHUT_RDWR => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    // Dropped without the lock: that wakes the other side.
    let _input = if reads { socket.input.lock().take() } else { None };
    let _output = if writes { socket.output.lock().take() } else { None };
    Ok(0)
}
