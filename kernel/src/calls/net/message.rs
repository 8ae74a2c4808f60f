//! sendmsg(2), recvmsg(2), sendmmsg(2), recvmmsg(2).

use linux_raw_sys::{errno, net};

use crate::calls::net::address;
use crate::calls::net::control::{self, Control};
use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::net::protocol::Outgoing;
use crate::net::socket::Socket;
use crate::sched::wait::{FOREVER, deadline_after};
use crate::task::current;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::File;

/// The most segments of a message (`UIO_MAXIOV`), and the most messages of sendmmsg.
const MAX_SEGMENTS: u64 = 1024;
/// Of recvmmsg: waits for the first message alone.
const MSG_WAITFORONE: u32 = 0x1_0000;

/// `struct msghdr`.
struct Header {
    name: u64,
    name_len: u32,
    vector: u64,
    count: u64,
    control: u64,
    control_len: u64,
}

/// Where the members that recvmsg writes are, and how long the structure is.
struct Layout {
    name_len: u64,
    control_len: u64,
    flags: u64,
    len: u64,
}

impl Layout {
    fn of(width: Width) -> Layout {
        match width {
            Width::Bits64 => Layout { name_len: 8, control_len: 40, flags: 48, len: 56 },
            Width::Bits32 => Layout { name_len: 4, control_len: 20, flags: 24, len: 28 },
        }
    }

    /// From one `struct mmsghdr` to the next: the header, the length, and what aligns them.
    fn step(width: Width) -> u64 {
        (Layout::of(width).len + 4).next_multiple_of(width.word() as u64)
    }
}

impl Header {
    /// Reads it; with a count of segments that is too large it is EMSGSIZE.
    fn read(address: u64) -> Result<Header> {
        // Where members are ints, half of the word is padding.
        let [name, name_len, vector, count, control, control_len] = c_long::read_unsigned(address)?;
        let name_len = name_len as u32;
        if (name_len as i32) < 0 && name != 0 {
            return Err(Errno::EINVAL);
        }
        if count > MAX_SEGMENTS {
            return Err(Errno(errno::EMSGSIZE as usize));
        }
        Ok(Header { name, name_len, vector, count, control, control_len })
    }
}

fn send(file: &File, address: u64, flags: u32) -> Result<usize> {
    let socket = Socket::of(file)?;
    let header = Header::read(address)?;
    let name_len = header.name_len.min(address::MAX_LEN as u32);
    let to = if header.name == 0 || name_len == 0 { None } else { Some(address::read(header.name, name_len)?) };
    let mut bytes = Source::user_vector(header.vector, header.count)?;
    let Control { files, credentials } = control::read(header.control, header.control_len)?;
    let patience = socket.send_patience(file, flags);
    socket.send(Outgoing { bytes: &mut bytes, to: to.as_deref(), files, credentials, flags, patience })
}

fn receive(file: &File, address: u64, flags: u32) -> Result<usize> {
    let socket = Socket::of(file)?;
    let header = Header::read(address)?;
    let mut bytes = Destination::user_vector(header.vector, header.count)?;
    let received = socket.receive(file, &mut bytes, flags)?;
    let width = Width::of_call();
    let layout = Layout::of(width);
    let close_on_exec = flags & net::MSG_CMSG_CLOEXEC;
    let mut writer = control::Writer::new(header.control, header.control_len);
    let (from, len, message_len) = (received.from, received.len, received.message_len);
    writer.put_all(received.files, received.credentials, close_on_exec != 0)?;
    if header.name != 0 {
        let room = (header.name_len as usize).min(from.len());
        user::write(header.name, &from[..room])?;
        user::write(address + layout.name_len, &(from.len() as u32))?;
    }
    user::write(address + layout.flags, &(received.flags | writer.flags() | close_on_exec))?;
    c_long::write_unsigned(address + layout.control_len, [writer.written()])?;
    Ok(if flags & net::MSG_TRUNC != 0 { message_len } else { len })
}

/// sendmsg(2).
pub fn sys_sendmsg(fd: u64, address: u64, flags: u64) -> Result<usize> {
    send(&*current().files.get(fd)?, address, flags as u32)
}

/// recvmsg(2).
pub fn sys_recvmsg(fd: u64, address: u64, flags: u64) -> Result<usize> {
    receive(&*current().files.get(fd)?, address, flags as u32)
}

/// sendmmsg(2).
pub fn sys_sendmmsg(fd: u64, vector: u64, count: u64, flags: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let width = Width::of_call();
    let count = (count as u32 as u64).min(MAX_SEGMENTS);
    for index in 0..count {
        let address = vector.wrapping_add(index * Layout::step(width));
        let sent = send(&file, address, flags as u32)
            .and_then(|len| user::write(address.wrapping_add(Layout::of(width).len), &(len as u32)));
        match sent {
            Ok(()) => (),
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index as usize),
        }
    }
    Socket::of(&file)?;
    Ok(count as usize)
}

/// recvmmsg(2).
pub fn sys_recvmmsg(fd: u64, vector: u64, count: u64, flags: u64, timeout: u64) -> Result<usize> {
    recvmmsg(Width::Bits64, fd, vector, count, flags, timeout)
}

/// recvmmsg(2) with a `timespec` of this width. The time is looked at between messages: who waits for one does not see that it is up.
pub fn recvmmsg(width: Width, fd: u64, vector: u64, count: u64, flags: u64, timeout: u64) -> Result<usize> {
    const SECOND: i64 = 1_000_000_000;
    let deadline = match timeout {
        0 => FOREVER,
        _ => {
            let [seconds, fraction] = c_long::read_of(width, timeout)?;
            if seconds < 0 || !(0..SECOND).contains(&fraction) {
                return Err(Errno::EINVAL);
            }
            deadline_after((seconds as u64).saturating_mul(SECOND as u64).saturating_add(fraction as u64))
        }
    };
    let file = current().files.get(fd)?;
    Socket::of(&file)?;
    let call = Width::of_call();
    let mut flags = flags as u32;
    let mut done = 0;
    let result = loop {
        if done == count as u32 as u64 {
            break Ok(());
        }
        let address = vector.wrapping_add(done * Layout::step(call));
        let received = receive(&file, address, flags & !MSG_WAITFORONE)
            .and_then(|len| user::write(address.wrapping_add(Layout::of(call).len), &(len as u32)));
        if let Err(error) = received {
            break Err(error);
        }
        done += 1;
        if flags & MSG_WAITFORONE != 0 {
            flags |= net::MSG_DONTWAIT;
        }
        if deadline <= time::now() {
            break Ok(());
        }
    };
    if done == 0 {
        result?;
    }
    if timeout != 0 {
        let left = deadline.saturating_sub(time::now()) as i64;
        c_long::write_of(width, timeout, [left / SECOND, left % SECOND])?;
    }
    Ok(done as usize)
}
