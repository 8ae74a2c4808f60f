//! sendto(2), recvfrom(2) and the calls that are these with fewer arguments.

use alloc::vec::Vec;

use linux_raw_sys::net;

use crate::calls::net::address;
use crate::errno::Result;
use crate::net::protocol::Outgoing;
use crate::net::socket::Socket;
use crate::task::current;
use crate::vfs::buffer::{Destination, Source};

/// sendto(2).
pub fn sys_sendto(fd: u64, bytes: u64, len: u64, flags: u64, name: u64, name_len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    let to = if name == 0 { None } else { Some(address::read(name, name_len as u32)?) };
    socket.send(Outgoing {
        bytes: &mut Source::user(bytes, len),
        to: to.as_deref(),
        files: Vec::new(),
        credentials: None,
        flags: flags as u32,
        patience: socket.send_patience(&file, flags as u32),
    })
}

/// send(2).
pub fn sys_send(fd: u64, bytes: u64, len: u64, flags: u64) -> Result<usize> {
    sys_sendto(fd, bytes, len, flags, 0, 0)
}

/// recvfrom(2).
pub fn sys_recvfrom(fd: u64, bytes: u64, len: u64, flags: u64, name: u64, name_len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    let received = socket.receive(&file, &mut Destination::user(bytes, len), flags as u32)?;
    if name != 0 {
        address::write(name, name_len, &received.from)?;
    }
    let is_whole = flags as u32 & net::MSG_TRUNC != 0;
    Ok(if is_whole { received.message_len } else { received.len })
}

/// recv(2).
pub fn sys_recv(fd: u64, bytes: u64, len: u64, flags: u64) -> Result<usize> {
    sys_recvfrom(fd, bytes, len, flags, 0, 0)
}
