//! Messages: SOCK_DGRAM and SOCK_SEQPACKET.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{errno, net};

use crate::errno::{Errno, Result};
use crate::net::credentials::PeerCredentials;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Received};
use crate::net::unix::link;
use crate::net::unix::message::{InFlight, Message, take_bytes};
use crate::net::unix::name::Name;
use crate::net::unix::registry;
use crate::net::unix::socket::{Kind, Link, UnixSocket, wake_waiters};
use crate::task::current;
use crate::vfs::file::File;

/// What a message's head takes of SO_SNDBUF, of which a message may take all else.
const HEAD: usize = 32;

const NOT_CONNECTED: Errno = Errno(errno::ENOTCONN as usize);
const REFUSED: Errno = Errno(errno::ECONNREFUSED as usize);

/// Whom a message is for: the owner of a name, or the peer.
enum Target {
    Named(Arc<UnixSocket>),
    Peer(Arc<UnixSocket>),
}

fn target(socket: &UnixSocket, to: Option<&[u8]>) -> Result<Target> {
    match to {
        // Who has one peer sends to it, whatever the call says.
        Some(name) if socket.kind == Kind::Datagram => {
            let name = Name::from_sockaddr(name)?.ok_or(Errno::EINVAL)?;
            Ok(Target::Named(registry::find(&name, socket.kind)?))
        }
        _ => socket.peer().map(Target::Peer).ok_or(NOT_CONNECTED),
    }
}

/// Sends one message, whole.
pub fn send(socket: &UnixSocket, outgoing: Outgoing) -> Result<usize> {
    let Outgoing { bytes, to, files, credentials, patience, .. } = outgoing;
    let len = bytes.remaining();
    if socket.kind == Kind::SeqPacket {
        let error = socket.state.lock().error.take();
        if let Some(error) = error {
            return Err(error);
        }
    }
    // Before anything is copied, as the name may be wrong.
    let target = target(socket, to)?;
    let files = InFlight::of_current(files)?;
    if len + HEAD > socket.outbox.limit() {
        return Err(Errno(errno::EMSGSIZE as usize));
    }
    let charge = patience.wait(&socket.outbox.room, || {
        // In this order: whoever ends the connection between the two wakes us.
        let charge = socket.outbox.charge(len);
        let mut state = socket.state.lock();
        match state.error.take() {
            Some(error) => Some(Err(error)),
            None if state.sends_no_more => Some(Err(Errno::EPIPE)),
            None => charge.map(Ok),
        }
    })??;
    let bytes = take_bytes(bytes, len)?;
    let (Target::Named(other) | Target::Peer(other)) = &target;
    let tells = || socket.tells_credentials(other).then(|| PeerCredentials::real(&current().process));
    let credentials = credentials.or_else(tells);
    let from = socket.state.lock().name.clone();
    let message = Message { bytes, start: 0, from, credentials, files, _charge: charge };
    let result = put(socket, other, message, patience);
    if result == Err(REFUSED) && matches!(target, Target::Peer(_)) {
        link::disconnect(socket);
    }
    result.map(|()| len)
}

/// Waits until the other takes the message.
fn put(socket: &UnixSocket, other: &UnixSocket, message: Message, patience: Patience) -> Result<()> {
    let mut message = Some(message);
    patience.wait(&socket.outbox.room, || {
        let mut state = other.state.lock();
        if state.is_closed {
            return Some(Err(REFUSED));
        }
        let is_itself = core::ptr::eq(socket, other);
        if socket.kind == Kind::Datagram && matches!(state.link, Link::Peer(_)) && !state.is_peer(socket) {
            return Some(Err(Errno::EPERM));
        }
        if state.receives_no_more {
            return Some(Err(Errno::EPIPE));
        }
        if !is_itself && !state.is_peer(socket) && state.is_full() {
            state.add_waiter(socket);
            return None;
        }
        state.messages.extend(message.take());
        Some(Ok(()))
    })??;
    other.wake_receivers();
    Ok(())
}

/// Receives one message. What does not fit is lost.
pub fn receive(socket: &UnixSocket, incoming: Incoming) -> Result<Received> {
    let Incoming { bytes, flags, patience, .. } = incoming;
    if socket.kind == Kind::SeqPacket && socket.peer().is_none() {
        return Err(NOT_CONNECTED);
    }
    let peeks = flags & net::MSG_PEEK != 0;
    let next = patience.wait(&socket.changed, || {
        let mut state = socket.state.lock();
        if let Some(error) = state.error.take() {
            return Some(Err(error));
        }
        let taken = if peeks {
            state.messages.front().map(Taken::copy)
        } else {
            let message = state.messages.pop_front();
            message.map(|message| Taken::whole(message, state.take_waiters()))
        };
        match taken {
            Some(taken) => Some(Ok(Some(taken))),
            // Who does not wait hears of the end on a connection alone.
            None if patience.is_none() && socket.kind == Kind::Datagram => None,
            None => state.receives_no_more.then_some(Ok(None)),
        }
    })??;
    let Some(taken) = next else {
        return Ok(Received::default());
    };
    wake_waiters(taken.waiters);
    let len = taken.bytes.len().min(bytes.remaining());
    bytes.put(&taken.bytes[..len])?;
    let is_cut = len < taken.bytes.len();
    let wants_credentials = socket.passes_credentials.load(Relaxed);
    Ok(Received {
        len,
        message_len: taken.bytes.len(),
        from: taken.from.as_ref().map_or(Vec::new(), |name| Name::to_sockaddr(Some(name))),
        files: taken.files,
        credentials: wants_credentials.then_some(taken.credentials.unwrap_or(PeerCredentials::NOBODY)),
        flags: if is_cut { net::MSG_TRUNC } else { 0 },
    })
}

/// What is received of a message.
struct Taken {
    bytes: Arc<Vec<u8>>,
    from: Option<Arc<Name>>,
    credentials: Option<PeerCredentials>,
    files: Vec<Arc<File>>,
    waiters: Vec<Weak<UnixSocket>>,
    /// Counts back what it took of its sender's room, without the lock.
    _message: Option<Message>,
}

impl Taken {
    fn whole(mut message: Message, waiters: Vec<Weak<UnixSocket>>) -> Taken {
        let files = message.files.take();
        Taken {
            bytes: message.bytes.clone(),
            from: message.from.clone(),
            credentials: message.credentials,
            files,
            waiters,
            _message: Some(message),
        }
    }

    fn copy(message: &Message) -> Taken {
        Taken {
            bytes: message.bytes.clone(),
            from: message.from.clone(),
            credentials: message.credentials,
            files: message.files.copies(),
            waiters: Vec::new(),
            _message: None,
        }
    }
}
