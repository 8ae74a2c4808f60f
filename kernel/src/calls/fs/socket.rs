//! socketpair(2) and shutdown(2). The sockets themselves are [`fs::socket_pair`](crate::fs::socket_pair) and
//! [`fs::packet_pair`](crate::fs::packet_pair).

use linux_raw_sys::{errno, general as abi};

use crate::errno::{Errno, Result};
use crate::fs::socket_pair::{new_socket_pair, socket_of};
use crate::fs::{install_pair, packet_pair};
use crate::task::current;

const AF_UNIX: u32 = 1;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_SEQPACKET: u32 = 5;
/// What shutdown(2) gives up.
const SHUT_RD: u32 = 0;
const SHUT_WR: u32 = 1;
const SHUT_RDWR: u32 = 2;

/// socketpair(2): unnamed sockets of the local family.
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
    let (first, second) =
        if kind == SOCK_STREAM { new_socket_pair(flags & abi::O_NONBLOCK) } else { packet_pair::pair(flags) };
    install_pair(first, second, flags & abi::O_CLOEXEC != 0, address)
}

/// shutdown(2).
pub fn sys_shutdown(fd: u64, how: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = socket_of(&file)?;
    let (reads, writes) = match how as u32 {
        SHUT_RD => (true, false),
        SHUT_WR => (false, true),
        SHUT_RDWR => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    socket.shut_down(reads, writes);
    Ok(0)
}
