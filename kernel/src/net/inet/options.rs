//! Options of the levels of IP, TCP and UDP: kept, and told. What goes over a loopback device needs none of them, but for TCP_NODELAY.

use linux_raw_sys::{errno, net};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;

/// Level, name and what it is at first.
const KNOWN: [(u32, u32, u32); 17] = [
    (net::IPPROTO_IP as u32, net::IP_TOS, 0),
    (net::IPPROTO_IP as u32, net::IP_TTL, 64),
    (net::IPPROTO_IP as u32, net::IP_MTU_DISCOVER, net::IP_PMTUDISC_WANT),
    (net::IPPROTO_IP as u32, net::IP_RECVERR, 0),
    (net::IPPROTO_IP as u32, net::IP_FREEBIND, 0),
    (net::IPPROTO_IP as u32, net::IP_BIND_ADDRESS_NO_PORT, 0),
    (net::IPPROTO_TCP as u32, net::TCP_NODELAY, 0),
    (net::IPPROTO_TCP as u32, net::TCP_CORK, 0),
    (net::IPPROTO_TCP as u32, net::TCP_KEEPIDLE, 7200),
    (net::IPPROTO_TCP as u32, net::TCP_KEEPINTVL, 75),
    (net::IPPROTO_TCP as u32, net::TCP_KEEPCNT, 9),
    (net::IPPROTO_TCP as u32, net::TCP_SYNCNT, 6),
    (net::IPPROTO_TCP as u32, net::TCP_LINGER2, 60),
    (net::IPPROTO_TCP as u32, net::TCP_DEFER_ACCEPT, 0),
    (net::IPPROTO_TCP as u32, net::TCP_QUICKACK, 1),
    (net::IPPROTO_TCP as u32, net::TCP_USER_TIMEOUT, 0),
    (net::IPPROTO_TCP as u32, net::TCP_MAXSEG, 32741),
];

const NO_SUCH_OPTION: Errno = Errno(errno::ENOPROTOOPT as usize);

/// The options of a socket.
pub struct LevelOptions(SpinLock<[u32; KNOWN.len()]>);

impl Default for LevelOptions {
    fn default() -> LevelOptions {
        LevelOptions(SpinLock::new(KNOWN.map(|(_, _, value)| value)))
    }
}

impl LevelOptions {
    /// The same ones, for another socket.
    pub fn copy(&self) -> LevelOptions {
        LevelOptions(SpinLock::new(*self.0.lock()))
    }

    fn index(protocol: u32, level: u32, name: u32) -> Result<usize> {
        // A socket has those of its protocol, and those of IP.
        if level != net::IPPROTO_IP as u32 && level != protocol {
            return Err(NO_SUCH_OPTION);
        }
        KNOWN.iter().position(|&(known, other, _)| (known, other) == (level, name)).ok_or(NO_SUCH_OPTION)
    }

    /// Sets one.
    pub fn set(&self, protocol: u32, level: u32, name: u32, value: u32) -> Result<()> {
        self.0.lock()[Self::index(protocol, level, name)?] = value;
        Ok(())
    }

    /// What it is.
    pub fn get(&self, protocol: u32, level: u32, name: u32) -> Result<u32> {
        Ok(self.0.lock()[Self::index(protocol, level, name)?])
    }
}
