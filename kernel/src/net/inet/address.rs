//! `struct sockaddr_in`.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use linux_raw_sys::{errno, net};

use crate::errno::{Errno, Result};

/// Bytes of a `struct sockaddr_in`, the last eight of which mean nothing.
const LEN: usize = 16;

/// An address and a port. 0.0.0.0 stands for all addresses, or for the first loopback one; port 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// None at all.
    pub const NONE: Endpoint = Endpoint { address: Ipv4Addr::UNSPECIFIED, port: 0 };

    /// Reads one. EINVAL for what is too short, EAFNOSUPPORT for another family.
    pub fn from_sockaddr(bytes: &[u8]) -> Result<Endpoint> {
        let Some([family_low, family_high, port_high, port_low, address @ ..]) = bytes.first_chunk::<8>() else {
            return Err(Errno::EINVAL);
        };
        if bytes.len() < LEN {
            return Err(Errno::EINVAL);
        }
        if u16::from_ne_bytes([*family_low, *family_high]) as u32 != net::AF_INET {
            return Err(Errno(errno::EAFNOSUPPORT as usize));
        }
        Ok(Endpoint { address: Ipv4Addr::from(*address), port: u16::from_be_bytes([*port_high, *port_low]) })
    }

    /// As programs see it.
    pub fn to_sockaddr(self) -> Vec<u8> {
        let mut bytes = (net::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(self.address.octets());
        bytes.resize(LEN, 0);
        bytes
    }

    /// Where a packet for it goes: ENETUNREACH if that is not this machine.
    pub fn as_destination(self) -> Result<Endpoint> {
        match self.address {
            Ipv4Addr::UNSPECIFIED => Ok(Endpoint { address: Ipv4Addr::LOCALHOST, ..self }),
            address if address.is_loopback() => Ok(self),
            _ => Err(Errno(errno::ENETUNREACH as usize)),
        }
    }

    /// The same where a socket is bound to it: EADDRNOTAVAIL.
    pub fn as_own(self) -> Result<Endpoint> {
        let is_own = self.address.is_unspecified() || self.address.is_loopback();
        if is_own { Ok(self) } else { Err(Errno(errno::EADDRNOTAVAIL as usize)) }
    }

    /// Whether packets for `other` are for who is bound to this.
    pub fn takes(self, other: Endpoint) -> bool {
        self.port == other.port && (self.address.is_unspecified() || self.address == other.address)
    }
}

/// Whether a `sockaddr` is of no family: it ends a connection.
pub fn is_unspecified(bytes: &[u8]) -> bool {
    bytes.get(..2) == Some(&(net::AF_UNSPEC as u16).to_ne_bytes())
}
