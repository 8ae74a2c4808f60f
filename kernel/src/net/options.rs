//! Options of the level SOL_SOCKET that are kept here: those that no protocol has to act upon, or that each does in its own way.

use linux_raw_sys::net;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::sched::wait::FOREVER;

/// What a socket may have on its way to others, in bytes, unless it says otherwise (Linux's `net.core.wmem_default`); and the most that it
/// may say, before that is doubled.
pub const BUFFER: u32 = 212_992;
/// The least that SO_SNDBUF and SO_RCVBUF make of a number.
const LEAST_SEND_BUFFER: u32 = 4608;
const LEAST_RECEIVE_BUFFER: u32 = 2304;

/// Options that are on or off.
const SWITCHES: [u32; 7] = [
    net::SO_DEBUG,
    net::SO_REUSEADDR,
    net::SO_DONTROUTE,
    net::SO_BROADCAST,
    net::SO_KEEPALIVE,
    net::SO_OOBINLINE,
    net::SO_REUSEPORT,
];

#[derive(Clone, Copy)]
struct Values {
    switches: [bool; SWITCHES.len()],
    send_buffer: u32,
    receive_buffer: u32,
    low_water: u32,
    priority: u32,
    linger: [u32; 2],
    receive_timeout: u64,
    send_timeout: u64,
}

/// The options of a socket.
pub struct Options(SpinLock<Values>);

impl Default for Options {
    fn default() -> Options {
        Options(SpinLock::new(Values {
            switches: [false; _],
            send_buffer: BUFFER,
            receive_buffer: BUFFER,
            low_water: 1,
            priority: 0,
            linger: [0; 2],
            receive_timeout: FOREVER,
            send_timeout: FOREVER,
        }))
    }
}

impl Options {
    /// As a socket has them that was accepted from one with these.
    pub fn inherited(&self) -> Options {
        Options(SpinLock::new(*self.0.lock()))
    }

    /// Sets an option that is a number; returns what it is then. None: it is not kept here.
    pub fn set(&self, name: u32, value: u32) -> Result<Option<u32>> {
        let mut values = self.0.lock();
        if let Some(index) = SWITCHES.iter().position(|&switch| switch == name) {
            values.switches[index] = value != 0;
            return Ok(Some((value != 0).into()));
        }
        let buffer = |least: u32| (value.min(BUFFER) * 2).max(least);
        match name {
            net::SO_SNDBUF => {
                values.send_buffer = buffer(LEAST_SEND_BUFFER);
                Ok(Some(values.send_buffer))
            }
            net::SO_RCVBUF => {
                values.receive_buffer = buffer(LEAST_RECEIVE_BUFFER);
                Ok(Some(values.receive_buffer))
            }
            net::SO_RCVLOWAT => {
                values.low_water = if (value as i32) < 0 { i32::MAX as u32 } else { value.max(1) };
                Ok(Some(values.low_water))
            }
            net::SO_PRIORITY if value > 6 => Err(Errno::EPERM),
            net::SO_PRIORITY => {
                values.priority = value;
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    /// An option that is a number, if it is kept here.
    pub fn get(&self, name: u32) -> Option<u32> {
        let values = self.0.lock();
        if let Some(index) = SWITCHES.iter().position(|&switch| switch == name) {
            return Some(values.switches[index].into());
        }
        match name {
            net::SO_SNDBUF => Some(values.send_buffer),
            net::SO_RCVBUF => Some(values.receive_buffer),
            net::SO_RCVLOWAT => Some(values.low_water),
            net::SO_SNDLOWAT => Some(1),
            net::SO_PRIORITY => Some(values.priority),
            _ => None,
        }
    }

    /// SO_RCVLOWAT.
    pub fn low_water(&self) -> usize {
        self.0.lock().low_water as usize
    }

    /// SO_LINGER: whether, and how many seconds.
    pub fn linger(&self) -> [u32; 2] {
        self.0.lock().linger
    }

    /// Sets SO_LINGER.
    pub fn set_linger(&self, [on, seconds]: [u32; 2]) {
        self.0.lock().linger = [(on != 0).into(), seconds];
    }

    /// How long receiving waits, in nanoseconds.
    pub fn receive_timeout(&self) -> u64 {
        self.0.lock().receive_timeout
    }

    /// Sets that.
    pub fn set_receive_timeout(&self, timeout: u64) {
        self.0.lock().receive_timeout = timeout;
    }

    /// How long sending and connecting wait, in nanoseconds.
    pub fn send_timeout(&self) -> u64 {
        self.0.lock().send_timeout
    }

    /// Sets that.
    pub fn set_send_timeout(&self, timeout: u64) {
        self.0.lock().send_timeout = timeout;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_doubled_and_have_bounds() {
        let options = Options::default();
        assert_eq!((options.get(net::SO_SNDBUF), options.get(net::SO_RCVBUF)), (Some(BUFFER), Some(BUFFER)));
        assert_eq!(options.set(net::SO_SNDBUF, 10_000), Ok(Some(20_000)));
        assert_eq!((options.get(net::SO_SNDBUF), options.get(net::SO_RCVBUF)), (Some(20_000), Some(BUFFER)));
        assert_eq!(options.set(net::SO_SNDBUF, 0), Ok(Some(LEAST_SEND_BUFFER)));
        assert_eq!(options.set(net::SO_RCVBUF, u32::MAX), Ok(Some(2 * BUFFER)), "a negative one, too");
    }

    #[test]
    fn switches_are_on_or_off() {
        let options = Options::default();
        for switch in SWITCHES {
            assert_eq!(
                (options.get(switch), options.set(switch, 7), options.get(switch)),
                (Some(0), Ok(Some(1)), Some(1))
            );
        }
        assert_eq!((options.get(net::SO_PEERCRED), options.set(net::SO_PEERCRED, 1)), (None, Ok(None)));
    }
}
