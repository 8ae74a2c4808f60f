//! setsockopt(2), getsockopt(2).

use alloc::vec::Vec;

use linux_raw_sys::{errno, net};
use zerocopy::IntoBytes;

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::memory::{c_long, user};
use crate::net::socket::Socket;
use crate::sched::wait::FOREVER;
use crate::task::current;

const NO_SUCH_OPTION: Errno = Errno(errno::ENOPROTOOPT as usize);
const SECOND: u64 = 1_000_000_000;
const MICROSECOND: u64 = 1000;

/// setsockopt(2).
pub fn sys_setsockopt(fd: u64, level: u64, name: u64, value: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    let (level, name, len) = (level as u32, name as u32, len as u32);
    if (len as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let needs = |bytes: usize| if (len as usize) < bytes { Err(Errno::EINVAL) } else { Ok(()) };
    if level != net::SOL_SOCKET {
        // Options of one byte are allowed where numbers are.
        let value = match len {
            0 => 0,
            1..4 => user::read::<u8>(value)?.into(),
            _ => user::read(value)?,
        };
        socket.protocol.set_option(level, name, value)?;
        return Ok(0);
    }
    needs(4)?;
    let number: u32 = user::read(value)?;
    match name {
        net::SO_LINGER => {
            needs(8)?;
            socket.options.set_linger(user::read(value)?);
            socket.protocol.common_option_changed(name, number, socket.options.linger());
        }
        net::SO_RCVTIMEO_OLD | net::SO_SNDTIMEO_OLD | net::SO_RCVTIMEO_NEW | net::SO_SNDTIMEO_NEW => {
            let width = time_width(name);
            needs(2 * width.word())?;
            let timeout = timeout(c_long::read_of(width, value)?)?;
            if matches!(name, net::SO_RCVTIMEO_OLD | net::SO_RCVTIMEO_NEW) {
                socket.options.set_receive_timeout(timeout);
            } else {
                socket.options.set_send_timeout(timeout);
            }
        }
        net::SO_PASSCRED => socket.protocol.set_passes_credentials(number != 0),
        _ => {
            let set = socket.options.set(name, number)?.ok_or(NO_SUCH_OPTION)?;
            if name == net::SO_SNDBUF {
                socket.protocol.set_send_buffer(set as usize);
            }
            socket.protocol.common_option_changed(name, set, socket.options.linger());
        }
    }
    Ok(0)
}

/// How wide the members of the `timeval` of an option are.
fn time_width(name: u32) -> Width {
    match name {
        net::SO_RCVTIMEO_NEW | net::SO_SNDTIMEO_NEW => Width::Bits64,
        _ => Width::of_call(),
    }
}

/// Nanoseconds. No time at all stands for no limit, a negative one for not waiting.
fn timeout([seconds, microseconds]: [i64; 2]) -> Result<u64> {
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno(errno::EDOM as usize));
    }
    match (seconds, microseconds) {
        (0, 0) => Ok(FOREVER),
        (..0, _) => Ok(0),
        _ => Ok((seconds as u64).saturating_mul(SECOND).saturating_add(microseconds as u64 * MICROSECOND)),
    }
}

/// The reverse.
fn timeval(timeout: u64) -> [i64; 2] {
    match timeout {
        FOREVER => [0, 0],
        _ => [(timeout / SECOND) as i64, (timeout % SECOND / MICROSECOND) as i64],
    }
}

/// getsockopt(2).
pub fn sys_getsockopt(fd: u64, level: u64, name: u64, value: u64, len: u64) -> Result<usize> {
    let file = current().files.get(fd)?;
    let socket = Socket::of(&file)?;
    let room: i32 = user::read(len)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = option(socket, level as u32, name as u32)?;
    let count = room.min(bytes.len());
    user::write(value, &bytes[..count])?;
    user::write(len, &(count as u32))?;
    Ok(0)
}

fn option(socket: &Socket, level: u32, name: u32) -> Result<Vec<u8>> {
    let (domain, kind, protocol) = socket.protocol.kind();
    let number = match (level, name) {
        (net::SOL_SOCKET, net::SO_TYPE) => kind,
        (net::SOL_SOCKET, net::SO_DOMAIN) => domain,
        (net::SOL_SOCKET, net::SO_PROTOCOL) => protocol,
        (net::SOL_SOCKET, net::SO_ERROR) => socket.protocol.take_error().map_or(0, |error| error.0 as u32),
        (net::SOL_SOCKET, net::SO_ACCEPTCONN) => socket.protocol.is_listening().into(),
        (net::SOL_SOCKET, net::SO_PASSCRED) => socket.protocol.passes_credentials().into(),
        (net::SOL_SOCKET, net::SO_PEERCRED) => {
            let credentials = socket.protocol.peer_credentials();
            // Nobody is shown as it is: no id, and not one that has no name here.
            let is_nobody = credentials == crate::net::credentials::PeerCredentials::NOBODY;
            return Ok(if is_nobody { [0, u32::MAX, u32::MAX] } else { credentials.seen() }.as_bytes().to_vec());
        }
        (net::SOL_SOCKET, net::SO_LINGER) => return Ok(socket.options.linger().as_bytes().to_vec()),
        (net::SOL_SOCKET, net::SO_RCVTIMEO_OLD | net::SO_RCVTIMEO_NEW) => {
            return Ok(time_bytes(name, socket.options.receive_timeout()));
        }
        (net::SOL_SOCKET, net::SO_SNDTIMEO_OLD | net::SO_SNDTIMEO_NEW) => {
            return Ok(time_bytes(name, socket.options.send_timeout()));
        }
        (net::SOL_SOCKET, _) => socket.options.get(name).ok_or(NO_SUCH_OPTION)?,
        _ => socket.protocol.option(level, name)?,
    };
    Ok(number.as_bytes().to_vec())
}

fn time_bytes(name: u32, timeout: u64) -> Vec<u8> {
    let time = timeval(timeout);
    match time_width(name) {
        Width::Bits64 => time.as_bytes().to_vec(),
        Width::Bits32 => time.map(|part| part as i32).as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_no_limit_and_times_come_back() {
        assert_eq!((timeout([0, 0]), timeval(FOREVER)), (Ok(FOREVER), [0, 0]));
        for time in [[0, 1], [1, 0], [7, 999_999]] {
            assert_eq!(timeout(time).map(timeval), Ok(time));
        }
        assert_eq!((timeout([-1, 5]), timeout([i64::MAX, 0])), (Ok(0), Ok(u64::MAX)));
        for microseconds in [-1, 1_000_000] {
            assert_eq!(timeout([1, microseconds]), Err(Errno(errno::EDOM as usize)));
        }
    }
}
