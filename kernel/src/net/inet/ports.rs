//! Who has which port.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use linux_raw_sys::errno;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::net::inet::address::Endpoint;
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::capable::capable;
use crate::task::system_info::fill_random;

/// The ports of those who ask for any (Linux's `net.ipv4.ip_local_port_range`).
const FIRST: u16 = 32768;
const COUNT: u16 = 28232;
/// The first that anybody may choose.
const FIRST_FREE: u16 = 1024;

struct Owner {
    id: u64,
    local: Endpoint,
    /// SO_REUSEADDR.
    shares: bool,
    is_listening: bool,
}

/// The ports of a protocol.
pub struct Ports(SpinLock<Vec<Owner>>);

const IN_USE: Errno = Errno(errno::EADDRINUSE as usize);

impl Ports {
    /// Nobody has any.
    pub const fn new() -> Ports {
        Ports(SpinLock::new(Vec::new()))
    }

    /// EACCES unless the current process may choose this port: those below 1024 are the administrator's.
    pub fn may_choose(&self, port: u16) -> Result<()> {
        let is_free = port == 0 || port >= FIRST_FREE || capable(Capability::NetBindService);
        if is_free { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Gives a socket this port, or any that is free for port 0. EADDRINUSE if another has it, and not both share it.
    pub fn take(&self, id: u64, wanted: Endpoint, shares: bool) -> Result<Endpoint> {
        let mut start = [0; 2];
        fill_random(&mut start);
        let mut owners = self.0.lock();
        let is_free = |local: Endpoint, shares: bool| {
            !owners.iter().any(|other| {
                let meets = other.local.takes(local) || local.takes(other.local);
                meets && !(shares && other.shares && !other.is_listening)
            })
        };
        let local = if wanted.port != 0 {
            Some(wanted).filter(|local| is_free(*local, shares))
        } else {
            let start = u16::from_ne_bytes(start) % COUNT;
            let ports = (0..COUNT).map(|n| FIRST + (start + n) % COUNT);
            // Whoever has it on any address has it: connections are told apart by their ports alone.
            let is_unused = |port: &u16| !owners.iter().any(|other| other.local.port == *port);
            ports.into_iter().find(is_unused).map(|port| Endpoint { port, ..wanted })
        };
        let local = local.ok_or(IN_USE)?;
        owners.push(Owner { id, local, shares, is_listening: false });
        Ok(local)
    }

    /// Others may connect to a socket's port: no other may do the same. EADDRINUSE if one does.
    pub fn listen(&self, id: u64) -> Result<()> {
        let mut owners = self.0.lock();
        let Some(index) = owners.iter().position(|owner| owner.id == id) else {
            return Err(Errno::EINVAL);
        };
        let local = owners[index].local;
        let meets = |other: &Owner| other.local.takes(local) || local.takes(other.local);
        if owners.iter().any(|other| other.id != id && other.is_listening && meets(other)) {
            return Err(IN_USE);
        }
        owners[index].is_listening = true;
        Ok(())
    }

    /// A socket's address is known now.
    pub fn settle(&self, id: u64, address: Ipv4Addr) {
        if let Some(owner) = self.0.lock().iter_mut().find(|owner| owner.id == id) {
            owner.local.address = address;
        }
    }

    /// A socket is closed.
    pub fn release(&self, id: u64) {
        self.0.lock().retain(|owner| owner.id != id);
    }
}
