//! Datagrams: SOCK_DGRAM. What is sent is at its receiver at once, or lost there for want of room, or nobody has the port.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use linux_raw_sys::{errno, general as abi, net};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::{frames, new_ino};
use crate::net::inet::address::{Endpoint, is_unspecified};
use crate::net::inet::end::Notice;
use crate::net::inet::options::LevelOptions;
use crate::net::inet::ports::Ports;
use crate::net::options::BUFFER;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Protocol, Received};
use crate::sched::wait::PollTable;

/// Bytes of the longest datagram.
const LONGEST: usize = 65507;
/// What a datagram takes beside its bytes.
const OVERHEAD: usize = 768;
const UDP: u32 = net::IPPROTO_UDP as u32;

static PORTS: Ports = Ports::new();
/// Those that have a port, the newest last.
static RECEIVERS: SpinLock<Vec<Weak<Shared>>> = SpinLock::new(Vec::new());

struct Datagram {
    bytes: Arc<Vec<u8>>,
    from: Endpoint,
}

struct State {
    local: Endpoint,
    peer: Option<Endpoint>,
    waiting: VecDeque<Datagram>,
    used: usize,
    error: Option<Errno>,
    receives_no_more: bool,
    sends_no_more: bool,
}

struct Shared {
    id: u64,
    notice: Notice,
    state: SpinLock<State>,
}

/// A datagram socket.
pub struct Udp {
    shared: Arc<Shared>,
    options: LevelOptions,
    /// SO_REUSEADDR.
    shares_port: AtomicBool,
}

impl Udp {
    /// One without a port.
    pub fn new() -> Udp {
        let state = State {
            local: Endpoint::NONE,
            peer: None,
            waiting: VecDeque::new(),
            used: 0,
            error: None,
            receives_no_more: false,
            sends_no_more: false,
        };
        let shared = Shared { id: new_ino(), notice: Notice::default(), state: SpinLock::new(state) };
        Udp { shared: Arc::new(shared), options: LevelOptions::default(), shares_port: AtomicBool::new(false) }
    }

    fn take_port(&self, wanted: Endpoint) -> Result<()> {
        if self.shared.state.lock().local.port != 0 {
            return Ok(());
        }
        let local = PORTS.take(self.shared.id, wanted, self.shares_port.load(Relaxed))?;
        self.shared.state.lock().local = local;
        let mut receivers = RECEIVERS.lock();
        receivers.retain(|receiver| receiver.strong_count() > 0);
        receivers.push(Arc::downgrade(&self.shared));
        Ok(())
    }
}

/// Who receives what `from` sends to `to`: who is connected to the sender before who is not.
fn receiver(from: Endpoint, to: Endpoint) -> Option<Arc<Shared>> {
    let receivers: Vec<Arc<Shared>> = RECEIVERS.lock().iter().rev().filter_map(Weak::upgrade).collect();
    let mut found = None;
    for receiver in receivers {
        let (local, peer) = {
            let state = receiver.state.lock();
            (state.local, state.peer)
        };
        if !local.takes(to) || peer.is_some_and(|peer| peer != from) {
            continue;
        }
        if peer.is_some() {
            return Some(receiver);
        }
        found.get_or_insert(receiver);
    }
    found
}

impl Drop for Udp {
    fn drop(&mut self) {
        PORTS.release(self.shared.id);
        RECEIVERS.lock().retain(|receiver| !core::ptr::eq(receiver.as_ptr(), &*self.shared));
    }
}

impl Protocol for Udp {
    fn kind(&self) -> (u32, u32, u32) {
        (net::AF_INET, net::SOCK_DGRAM, UDP)
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let wanted = Endpoint::from_sockaddr(name)?.as_own()?;
        if self.shared.state.lock().local.port != 0 {
            return Err(Errno::EINVAL);
        }
        PORTS.may_choose(wanted.port)?;
        self.take_port(wanted)
    }

    fn connect(&self, name: &[u8], _patience: Patience) -> Result<()> {
        if is_unspecified(name) {
            self.shared.state.lock().peer = None;
            return Ok(());
        }
        let peer = Endpoint::from_sockaddr(name)?.as_destination()?;
        self.take_port(Endpoint::NONE)?;
        let mut state = self.shared.state.lock();
        if state.local.address.is_unspecified() {
            state.local.address = Ipv4Addr::LOCALHOST;
        }
        state.peer = Some(peer);
        Ok(())
    }

    fn shut_down(&self, receives: bool, sends: bool) -> Result<()> {
        {
            let mut state = self.shared.state.lock();
            if state.peer.is_none() {
                return Err(Errno(errno::ENOTCONN as usize));
            }
            state.receives_no_more |= receives;
            state.sends_no_more |= sends;
        }
        self.shared.notice.wake();
        Ok(())
    }

    fn name(&self) -> Vec<u8> {
        self.shared.state.lock().local.to_sockaddr()
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let peer = self.shared.state.lock().peer;
        peer.map(Endpoint::to_sockaddr).ok_or(Errno(errno::ENOTCONN as usize))
    }

    fn send(&self, outgoing: Outgoing) -> Result<usize> {
        let len = outgoing.bytes.remaining();
        if len > LONGEST {
            return Err(Errno(errno::EMSGSIZE as usize));
        }
        if outgoing.flags & net::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let named = outgoing.to.filter(|name| !is_unspecified(name)).map(Endpoint::from_sockaddr).transpose()?;
        if named.is_some_and(|named| named.port == 0) {
            return Err(Errno::EINVAL);
        }
        let (peer, error, sends_no_more) = {
            let mut state = self.shared.state.lock();
            (state.peer, state.error.take(), state.sends_no_more)
        };
        let to = named.or(peer).ok_or(Errno(errno::EDESTADDRREQ as usize))?.as_destination()?;
        self.take_port(Endpoint::NONE)?;
        if let Some(error) = error {
            return Err(error);
        }
        if sends_no_more {
            return Err(Errno::EPIPE);
        }
        frames::require((len + OVERHEAD) as u64)?;
        let bytes = Arc::new(outgoing.bytes.take_all(LONGEST)?);
        let mut from = self.shared.state.lock().local;
        if from.address.is_unspecified() {
            from.address = Ipv4Addr::LOCALHOST;
        }
        match receiver(from, to) {
            Some(receiver) => {
                let mut state = receiver.state.lock();
                if state.used + len + OVERHEAD <= BUFFER as usize {
                    state.used += len + OVERHEAD;
                    state.waiting.push_back(Datagram { bytes, from });
                    drop(state);
                    receiver.notice.wake();
                }
            }
            // Who has a peer hears that nobody is there, with its next call.
            None if peer == Some(to) => {
                self.shared.state.lock().error = Some(Errno(errno::ECONNREFUSED as usize));
                self.shared.notice.wake();
            }
            None => (),
        }
        Ok(len)
    }

    fn receive(&self, incoming: Incoming) -> Result<Received> {
        let Incoming { bytes, flags, patience, .. } = incoming;
        if flags & (net::MSG_OOB | net::MSG_ERRQUEUE) != 0 {
            return Err(if flags & net::MSG_OOB != 0 { Errno::EOPNOTSUPP } else { Errno::EAGAIN });
        }
        let next = patience.wait(&self.shared.notice.changed, || {
            let mut state = self.shared.state.lock();
            if let Some(error) = state.error.take() {
                return Some(Err(error));
            }
            if flags & net::MSG_PEEK != 0
                && let Some(first) = state.waiting.front()
            {
                return Some(Ok(Some(Datagram { bytes: first.bytes.clone(), from: first.from })));
            }
            match state.waiting.pop_front() {
                Some(first) => {
                    state.used -= first.bytes.len() + OVERHEAD;
                    Some(Ok(Some(first)))
                }
                None if patience.is_none() => None,
                None => state.receives_no_more.then_some(Ok(None)),
            }
        })??;
        let Some(datagram) = next else {
            return Ok(Received::default());
        };
        let len = datagram.bytes.len().min(bytes.remaining());
        bytes.put(&datagram.bytes[..len])?;
        let flags = if len < datagram.bytes.len() { net::MSG_TRUNC } else { 0 };
        let from = datagram.from.to_sockaddr();
        Ok(Received { len, message_len: datagram.bytes.len(), from, flags, ..Received::default() })
    }

    fn poll(&self, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            self.shared.notice.changed.register(table);
        }
        let state = self.shared.state.lock();
        let mut events = abi::POLLOUT | abi::POLLWRNORM | abi::POLLWRBAND;
        if !state.waiting.is_empty() {
            events |= abi::POLLIN | abi::POLLRDNORM;
        }
        if state.receives_no_more {
            events |= abi::POLLIN | abi::POLLRDNORM | abi::POLLRDHUP;
            if state.sends_no_more {
                events |= abi::POLLHUP;
            }
        }
        if state.error.is_some() {
            events |= abi::POLLERR;
        }
        events
    }

    fn edges(&self) -> u64 {
        self.shared.notice.edges()
    }

    fn unread(&self) -> Result<usize> {
        Ok(self.shared.state.lock().waiting.front().map_or(0, |datagram| datagram.bytes.len()))
    }

    fn unsent(&self) -> Result<usize> {
        Ok(0)
    }

    fn take_error(&self) -> Option<Errno> {
        self.shared.state.lock().error.take()
    }

    fn common_option_changed(&self, name: u32, value: u32, _linger: [u32; 2]) {
        if name == net::SO_REUSEADDR {
            self.shares_port.store(value != 0, Relaxed);
        }
    }

    fn set_option(&self, level: u32, name: u32, value: u32) -> Result<()> {
        self.options.set(UDP, level, name, value)
    }

    fn option(&self, level: u32, name: u32) -> Result<u32> {
        self.options.get(UDP, level, name)
    }
}
