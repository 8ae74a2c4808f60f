//! The system calls on sockets. The sockets themselves are in [`net`](crate::net).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | make, name, connect and shut down sockets | this file |
//! | see how addresses are read and written | [`address`] |
//! | send and receive | [`transfer`]; `struct msghdr` [`message`]; what is in its control data [`control`] |
//! | set and get options | [`options`] |

mod address;
mod control;
mod message;
mod options;
mod transfer;

use alloc::boxed::Box;

use linux_raw_sys::{errno, general as abi, net};

use crate::errno::{Errno, Result};
use crate::fs::install_pair;
use crate::memory::frames;
use crate::net::credentials::PeerCredentials;
use crate::net::inet::tcp::Tcp;
use crate::net::inet::udp::Udp;
use crate::net::options::Options;
use crate::net::protocol::Protocol;
use crate::net::socket::Socket;
use crate::net::unix::Unix;
use crate::net::unix::socket::Kind;
use crate::task::current;

pub use crate::calls::net::message::*;
pub use crate::calls::net::options::*;
pub use crate::calls::net::transfer::*;

/// The bits of a type that say what it is; the others are flags.
const TYPE_MASK: u32 = 0xf;
/// One past the last type that Linux has.
const TYPES: u32 = 11;
/// What sockets may be made with.
const FLAGS: u32 = abi::O_CLOEXEC | abi::O_NONBLOCK;

const PROTOCOL_NOT_SUPPORTED: Errno = Errno(errno::EPROTONOSUPPORT as usize);
const TYPE_NOT_SUPPORTED: Errno = Errno(errno::ESOCKTNOSUPPORT as usize);

/// Type and flags.
fn type_and_flags(kind: u64) -> Result<(u32, u32)> {
    let (kind, flags) = (kind as u32 & TYPE_MASK, kind as u32 & !TYPE_MASK);
    if flags & !FLAGS != 0 || kind >= TYPES { Err(Errno::EINVAL) } else { Ok((kind, flags)) }
}

/// The type of a local socket.
fn unix_kind(kind: u32, protocol: u32) -> Result<Kind> {
    if protocol != 0 && protocol != net::AF_UNIX {
        return Err(PROTOCOL_NOT_SUPPORTED);
    }
    match kind {
        net::SOCK_STREAM => Ok(Kind::Stream),
        net::SOCK_DGRAM | net::SOCK_RAW => Ok(Kind::Datagram),
        net::SOCK_SEQPACKET => Ok(Kind::SeqPacket),
        _ => Err(TYPE_NOT_SUPPORTED),
    }
}

/// A socket of the loopback addresses.
fn inet_socket(kind: u32, protocol: u32) -> Result<Box<dyn Protocol>> {
    const TCP: u32 = net::IPPROTO_TCP as u32;
    const UDP: u32 = net::IPPROTO_UDP as u32;
    match (kind, protocol) {
        (net::SOCK_STREAM, 0 | TCP) => Ok(Box::new(Tcp::new())),
        (net::SOCK_DGRAM, 0 | UDP) => Ok(Box::new(Udp::new())),
        (net::SOCK_STREAM | net::SOCK_DGRAM, _) => Err(PROTOCOL_NOT_SUPPORTED),
        (net::SOCK_RAW, 0) => Err(PROTOCOL_NOT_SUPPORTED),
        (net::SOCK_RAW, _) => Err(Errno::EPERM),
        _ => Err(TYPE_NOT_SUPPORTED),
    }
}

/// socket(2).
pub fn sys_socket(family: u64, kind: u64, protocol: u64) -> Result<usize> {
    let (kind, flags) = type_and_flags(kind)?;
    frames::require_spare()?;
    let socket: Box<dyn Protocol> = match family as u32 {
        net::AF_UNIX => Box::new(Unix::new(unix_kind(kind, protocol as u32)?)),
        net::AF_INET => inet_socket(kind, protocol as u32)?,
        _ => return Err(Errno(errno::EAFNOSUPPORT as usize)),
    };
    let file = Socket::new(socket).into_file(flags & abi::O_NONBLOCK);
    Ok(current().files.install(file, flags & abi::O_CLOEXEC != 0)? as usize)
}

/// socketpair(2).
pub fn sys_socketpair(family: u64, kind: u64, protocol: u64, address: u64) -> Result<usize> {
    let (kind, flags) = type_and_flags(kind)?;
    if family as u32 != net::AF_UNIX {
        // Sockets of other families have no pairs.
        return Err(if family as u32 == net::AF_INET {
            Errno::EOPNOTSUPP
        } else {
            Errno(errno::EAFNOSUPPORT as usize)
        });
    }
    frames::require_spare()?;
    let owner = PeerCredentials::effective(&current().process);
    let (first, second) = Unix::pair(unix_kind(kind, protocol as u32)?, owner);
    let [first, second] = [first, second].map(|end| Socket::new(Box::new(end)).into_file(flags & abi::O_NONBLOCK));
    install_pair(first, second, flags & abi::O_CLOEXEC != 0, address)
}

/// bind(2).
pub fn sys_bind(fd: u64, name: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    Socket::of(&file)?.protocol.bind(&address::read(name, len as u32)?)?;
    Ok(0)
}

/// listen(2).
pub fn sys_listen(fd: u64, backlog: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    // A negative number counts as a large one.
    Socket::of(&file)?.protocol.listen((backlog as u32).min(SOMAXCONN))?;
    Ok(0)
}

/// The most that may wait to be accepted (Linux's `net.core.somaxconn`).
const SOMAXCONN: u32 = 4096;

/// connect(2).
pub fn sys_connect(fd: u64, name: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    let name = address::read(name, len as u32)?;
    socket.protocol.connect(&name, socket.send_patience(&file, 0))?;
    Ok(0)
}

/// accept4(2).
pub fn sys_accept4(fd: u64, name: u64, len: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    // Before a connection is taken, which would be lost.
    current().files.require_room()?;
    let protocol = socket.protocol.accept(socket.receive_patience(&file, 0))?;
    if name != 0 {
        let peer = protocol.peer_name().map_err(|_| Errno(errno::ECONNABORTED as usize))?;
        address::write(name, len, &peer)?;
    }
    let options: Options = socket.options.inherited();
    let file = Socket { protocol, options }.into_file(flags & abi::O_NONBLOCK);
    Ok(current().files.install(file, flags & abi::O_CLOEXEC != 0)? as usize)
}

/// accept(2).
pub fn sys_accept(fd: u64, name: u64, len: u64) -> Result<usize> {
    sys_accept4(fd, name, len, 0)
}

/// shutdown(2).
pub fn sys_shutdown(fd: u64, how: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    let (receives, sends) = match how as u32 {
        net::SHUT_RD => (true, false),
        net::SHUT_WR => (false, true),
        net::SHUT_RDWR => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    socket.protocol.shut_down(receives, sends)?;
    Ok(0)
}

/// getsockname(2).
pub fn sys_getsockname(fd: u64, name: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    address::write(name, len, &Socket::of(&file)?.protocol.name())?;
    Ok(0)
}

/// getpeername(2).
pub fn sys_getpeername(fd: u64, name: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    address::write(name, len, &Socket::of(&file)?.protocol.peer_name()?)?;
    Ok(0)
}
