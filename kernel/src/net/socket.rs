//! The file operations of a socket.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use linux_raw_sys::{errno, general as abi, ioctl, net};

use crate::errno::{Errno, Result};
use crate::memory::{new_ino, user};
use crate::net::options::Options;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Protocol, Received};
use crate::sched::wait::PollTable;
use crate::signal;
use crate::vfs::anonymous::AnonymousInode;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};

/// What an open file of a socket refers to.
pub struct Socket {
    /// What kind it is, and does.
    pub protocol: Box<dyn Protocol>,
    /// What all kinds have.
    pub options: Options,
}

impl Socket {
    /// An open file of it. `flags`: O_NONBLOCK or 0.
    pub fn into_file(self, flags: u32) -> Arc<File> {
        let ino = new_ino();
        let label = format!("socket:[{ino}]").into_bytes();
        let inode = AnonymousInode::new(abi::S_IFSOCK | 0o777, ino, label);
        File::new(inode, Arc::new(self), abi::O_RDWR | flags)
    }

    /// A new one of this protocol.
    pub fn new(protocol: Box<dyn Protocol>) -> Socket {
        Socket { protocol, options: Options::default() }
    }

    /// The socket behind an open file; ENOTSOCK for any other.
    pub fn of(file: &File) -> Result<&Socket> {
        file.ops().as_any().and_then(|ops| ops.downcast_ref()).ok_or(Errno(errno::ENOTSOCK as usize))
    }

    /// How long a call that sends, or connects, waits.
    pub fn send_patience(&self, file: &File, flags: u32) -> Patience {
        Patience::new(file.is_nonblocking() || flags & net::MSG_DONTWAIT != 0, self.options.send_timeout())
    }

    /// How long a call that receives, or accepts, waits.
    pub fn receive_patience(&self, file: &File, flags: u32) -> Patience {
        Patience::new(file.is_nonblocking() || flags & net::MSG_DONTWAIT != 0, self.options.receive_timeout())
    }

    /// Sends. Who sends to nobody on a stream is told by a signal, too.
    pub fn send(&self, outgoing: Outgoing) -> Result<usize> {
        let is_quiet = outgoing.flags & net::MSG_NOSIGNAL != 0;
        let result = self.protocol.send(outgoing);
        if result == Err(Errno::EPIPE) && !is_quiet && self.protocol.kind().1 == net::SOCK_STREAM {
            signal::send::to_current(abi::SIGPIPE as i32);
        }
        result
    }

    /// Receives.
    pub fn receive(&self, file: &File, bytes: &mut Destination, flags: u32) -> Result<Received> {
        let patience = self.receive_patience(file, flags);
        let wanted = bytes.remaining();
        let at_least = if flags & net::MSG_WAITALL != 0 { wanted } else { self.options.low_water().min(wanted) }.max(1);
        self.protocol.receive(Incoming { bytes, flags, at_least, patience })
    }
}

impl FileOps for Socket {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        // Files that came with it are closed: there is no place for them.
        Ok(self.receive(file, to, 0)?.len)
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let patience = self.send_patience(file, 0);
        self.send(Outgoing { bytes: from, to: None, files: Vec::new(), credentials: None, flags: 0, patience })
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        self.protocol.poll(table)
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        let bytes = match request {
            ioctl::FIONREAD => self.protocol.unread()?,
            ioctl::TIOCOUTQ => self.protocol.unsent()?,
            _ => return Err(Errno::ENOTTY),
        };
        user::write(argument, &(bytes as u32))?;
        Ok(0)
    }

    fn edges(&self) -> u64 {
        self.protocol.edges()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
