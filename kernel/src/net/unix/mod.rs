//! Local sockets: AF_UNIX.
//!
//! What is sent waits at the receiver (`State::messages`), and counts against the sender's SO_SNDBUF until it is received: a message's
//! [`Charge`](message::Charge) counts it back.
//!
//! **Locks.** [`link`]'s `LINKS` is held while sockets are connected, shut down and closed, so that what two of them say of each other
//! agrees. Below it is each socket's `state`, one at a time. Neither is held while user memory is touched. `reading` is: who holds it is
//! the only one who takes from a stream.
//!
//! **Descriptors in flight.** A message keeps the files that go with it open. A socket that is itself in a message that waits at it, with no
//! descriptor left, is kept for good: nothing looks for such circles. What they can take is bounded: the files that a user has in
//! flight are no more than RLIMIT_NOFILE, whoever the user is (ETOOMANYREFS; Linux, which looks for circles, makes an exception for root).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know what a socket consists of | [`socket`] |
//! | change names, or how one is found | [`name`], [`registry`] |
//! | change connecting, accepting, closing | [`link`] |
//! | change how bytes or messages go over | [`stream`], [`datagram`] |

pub mod datagram;
pub mod link;
pub mod message;
pub mod name;
pub mod registry;
pub mod socket;
pub mod stream;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{errno, general as abi, net};

use crate::errno::{Errno, Result};
use crate::net::credentials::PeerCredentials;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Protocol, Received};
use crate::net::unix::name::Name;
use crate::net::unix::socket::{Kind, Link, UnixSocket};
use crate::sched::wait::PollTable;
use crate::task::current;

/// A socket that a descriptor refers to, and that is closed with it.
pub struct Unix(Arc<UnixSocket>);

impl Unix {
    /// A new one, alone.
    pub fn new(kind: Kind) -> Unix {
        Unix(UnixSocket::new(kind))
    }

    /// Two that are each other's peers.
    pub fn pair(kind: Kind, owner: PeerCredentials) -> (Unix, Unix) {
        let (first, second) = (UnixSocket::new(kind), UnixSocket::new(kind));
        link::join(&first, &second, owner);
        (Unix(first), Unix(second))
    }

    /// Linux names a socket whose messages tell of their senders, so that these can be answered.
    fn name_if_needed(&self) -> Result<()> {
        match self.0.passes_credentials.load(Relaxed) {
            true if self.0.state.lock().name.is_none() => registry::bind_to_any(&self.0),
            _ => Ok(()),
        }
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        link::close(&self.0);
    }
}

impl Protocol for Unix {
    fn kind(&self) -> (u32, u32, u32) {
        (net::AF_UNIX, self.0.kind as u32, 0)
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        match Name::from_sockaddr(name)? {
            Some(name) => registry::bind(&self.0, name),
            None => registry::bind_to_any(&self.0),
        }
    }

    fn listen(&self, backlog: u32) -> Result<()> {
        link::listen(&self.0, backlog, PeerCredentials::effective(&current().process))
    }

    fn is_listening(&self) -> bool {
        self.0.state.lock().is_listening()
    }

    fn connect(&self, name: &[u8], patience: Patience) -> Result<()> {
        if self.0.kind == Kind::Datagram {
            if name.get(..2) == Some(&(net::AF_UNSPEC as u16).to_ne_bytes()) {
                link::disconnect(&self.0);
                return Ok(());
            }
            let name = Name::from_sockaddr(name)?.ok_or(Errno::EINVAL)?;
            self.name_if_needed()?;
            return link::connect_datagram(&self.0, &registry::find(&name, self.0.kind)?);
        }
        let name = Name::from_sockaddr(name)?.ok_or(Errno::EINVAL)?;
        self.name_if_needed()?;
        let owner = PeerCredentials::effective(&current().process);
        link::connect(&self.0, &*registry::find(&name, self.0.kind)?, owner, patience)
    }

    fn accept(&self, patience: Patience) -> Result<Box<dyn Protocol>> {
        Ok(Box::new(Unix(link::accept(&self.0, patience)?)))
    }

    fn shut_down(&self, receives: bool, sends: bool) -> Result<()> {
        link::shut_down(&self.0, receives, sends);
        Ok(())
    }

    fn name(&self) -> Vec<u8> {
        Name::to_sockaddr(self.0.state.lock().name.as_deref())
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let peer = self.0.peer().ok_or(Errno(errno::ENOTCONN as usize))?;
        let name = peer.state.lock().name.clone();
        Ok(Name::to_sockaddr(name.as_deref()))
    }

    fn send(&self, outgoing: Outgoing) -> Result<usize> {
        if outgoing.flags & net::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.name_if_needed()?;
        match self.0.kind {
            Kind::Stream => stream::send(&self.0, outgoing),
            Kind::Datagram | Kind::SeqPacket => datagram::send(&self.0, outgoing),
        }
    }

    fn receive(&self, incoming: Incoming) -> Result<Received> {
        if incoming.flags & net::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.0.kind {
            Kind::Stream => stream::receive(&self.0, incoming),
            Kind::Datagram | Kind::SeqPacket => datagram::receive(&self.0, incoming),
        }
    }

    fn poll(&self, table: Option<&PollTable>) -> u32 {
        let socket = &*self.0;
        if let Some(table) = table {
            socket.changed.register(table);
            socket.outbox.room.register(table);
        }
        let (mut events, is_listening, peer) = {
            let state = socket.state.lock();
            let mut events = 0;
            if state.error.is_some() {
                events |= abi::POLLERR;
            }
            if state.receives_no_more {
                events |= abi::POLLRDHUP | abi::POLLIN | abi::POLLRDNORM;
            }
            if state.receives_no_more && state.sends_no_more {
                events |= abi::POLLHUP;
            }
            let is_listening = match &state.link {
                Link::Listening { pending, .. } => {
                    if !pending.is_empty() {
                        events |= abi::POLLIN | abi::POLLRDNORM;
                    }
                    true
                }
                Link::Peer(_) => false,
                Link::None => {
                    if socket.kind != Kind::Datagram {
                        events |= abi::POLLHUP;
                    }
                    false
                }
            };
            if !state.messages.is_empty() {
                events |= abi::POLLIN | abi::POLLRDNORM;
            }
            (events, is_listening, state.peer())
        };
        let has_room = !is_listening
            && socket.outbox.has_much_room()
            && peer.is_none_or(|peer| socket.kind != Kind::Datagram || peer.takes_from(socket));
        if has_room {
            events |= abi::POLLOUT | abi::POLLWRNORM | abi::POLLWRBAND;
        }
        events
    }

    fn edges(&self) -> u64 {
        self.0.arrivals.load(Relaxed) + self.0.outbox.edges()
    }

    fn unread(&self) -> Result<usize> {
        let state = self.0.state.lock();
        match self.0.kind {
            _ if state.is_listening() => Err(Errno::EINVAL),
            Kind::Datagram => Ok(state.messages.front().map_or(0, |message| message.remaining())),
            Kind::Stream | Kind::SeqPacket => Ok(state.messages.iter().map(|message| message.remaining()).sum()),
        }
    }

    fn unsent(&self) -> Result<usize> {
        Ok(self.0.outbox.used())
    }

    fn take_error(&self) -> Option<Errno> {
        self.0.state.lock().error.take()
    }

    fn peer_credentials(&self) -> PeerCredentials {
        self.0.state.lock().peer_credentials
    }

    fn passes_credentials(&self) -> bool {
        self.0.passes_credentials.load(Relaxed)
    }

    fn set_passes_credentials(&self, on: bool) {
        self.0.passes_credentials.store(on, Relaxed);
    }

    fn set_send_buffer(&self, bytes: usize) {
        self.0.outbox.set_limit(bytes);
    }
}

#[cfg(test)]
mod tests;
