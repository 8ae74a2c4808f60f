//! Who is whose peer: connecting, accepting, shutting down, closing.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::errno;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::frames;
use crate::net::credentials::PeerCredentials;
use crate::net::patience::Patience;
use crate::net::unix::message::Message;
use crate::net::unix::registry;
use crate::net::unix::socket::{Kind, Link, UnixSocket, wake_waiters};

/// Held while what two sockets say of each other changes.
static LINKS: SpinLock<()> = SpinLock::new(());

/// Makes two new sockets, of this process, each other's peers.
pub fn join(first: &Arc<UnixSocket>, second: &Arc<UnixSocket>, owner: PeerCredentials) {
    let _links = LINKS.lock();
    for (socket, peer) in [(first, second), (second, first)] {
        let mut state = socket.state.lock();
        state.link = Link::Peer(peer.clone());
        state.peer_credentials = owner;
    }
}

/// Lets others connect to a socket that has a name.
pub fn listen(socket: &UnixSocket, backlog: u32, owner: PeerCredentials) -> Result<()> {
    if socket.kind == Kind::Datagram {
        return Err(Errno::EOPNOTSUPP);
    }
    let waiters = {
        let _links = LINKS.lock();
        let mut state = socket.state.lock();
        if state.name.is_none() {
            return Err(Errno::EINVAL);
        }
        let room = backlog as usize;
        match &mut state.link {
            Link::Peer(_) => return Err(Errno::EINVAL),
            Link::Listening { backlog, .. } => *backlog = room,
            Link::None => state.link = Link::Listening { backlog: room, pending: VecDeque::new() },
        }
        state.peer_credentials = owner;
        state.take_waiters()
    };
    wake_waiters(waiters);
    Ok(())
}

/// Connects a socket to one that listens, and waits for its backlog to have room.
pub fn connect(
    socket: &Arc<UnixSocket>,
    listener: &UnixSocket,
    owner: PeerCredentials,
    patience: Patience,
) -> Result<()> {
    frames::require_spare()?;
    patience.wait(&socket.outbox.room, || try_connect(socket, listener, owner))??;
    listener.wake_receivers();
    Ok(())
}

/// None: too many wait to be accepted.
fn try_connect(socket: &Arc<UnixSocket>, listener: &UnixSocket, owner: PeerCredentials) -> Option<Result<()>> {
    let _links = LINKS.lock();
    match socket.state.lock().link {
        Link::None => (),
        Link::Listening { .. } => return Some(Err(Errno::EINVAL)),
        Link::Peer(_) => return Some(Err(Errno(errno::EISCONN as usize))),
    }
    let (name, listener_credentials) = {
        let mut state = listener.state.lock();
        match &state.link {
            Link::Listening { backlog, pending } if !state.receives_no_more => {
                if pending.len() > *backlog {
                    state.add_waiter(socket);
                    return None;
                }
            }
            _ => return Some(Err(Errno(errno::ECONNREFUSED as usize))),
        }
        (state.name.clone(), state.peer_credentials)
    };
    let end = UnixSocket::new(socket.kind);
    {
        let mut state = end.state.lock();
        state.name = name;
        state.link = Link::Peer(socket.clone());
        state.peer_credentials = owner;
    }
    {
        let mut state = socket.state.lock();
        state.link = Link::Peer(end.clone());
        state.peer_credentials = listener_credentials;
    }
    // It still listens: that changes with `LINKS` held.
    if let Link::Listening { pending, .. } = &mut listener.state.lock().link {
        pending.push_back(end);
    }
    Some(Ok(()))
}

/// The next that has connected to a socket.
pub fn accept(socket: &UnixSocket, patience: Patience) -> Result<Arc<UnixSocket>> {
    if socket.kind == Kind::Datagram {
        return Err(Errno::EOPNOTSUPP);
    }
    let (end, waiters) = patience.wait(&socket.changed, || {
        let mut state = socket.state.lock();
        let is_over = state.receives_no_more;
        let Link::Listening { pending, .. } = &mut state.link else {
            return Some(Err(Errno::EINVAL));
        };
        match pending.pop_front() {
            Some(end) => Some(Ok((end, state.take_waiters()))),
            None => is_over.then_some(Err(Errno::EINVAL)),
        }
    })??;
    wake_waiters(waiters);
    end.passes_credentials.store(socket.passes_credentials.load(Relaxed), Relaxed);
    Ok(end)
}

/// Makes the owner of a name a datagram socket's peer, whom it sends to and alone receives from. EPERM if that has another peer.
pub fn connect_datagram(socket: &UnixSocket, other: &Arc<UnixSocket>) -> Result<()> {
    let old = {
        let _links = LINKS.lock();
        let is_taken = match &other.state.lock().link {
            Link::Peer(peer) => !core::ptr::eq(&**peer, socket),
            _ => false,
        };
        if is_taken {
            return Err(Errno::EPERM);
        }
        let old = mem::replace(&mut socket.state.lock().link, Link::Peer(other.clone()));
        match old {
            Link::Peer(old) if !Arc::ptr_eq(&old, other) => drop_unread(socket, &old),
            _ => VecDeque::new(),
        }
    };
    drop(old);
    socket.outbox.wake();
    Ok(())
}

/// Makes a datagram socket have no peer.
pub fn disconnect(socket: &UnixSocket) {
    let unread = {
        let _links = LINKS.lock();
        let old = mem::replace(&mut socket.state.lock().link, Link::None);
        match old {
            Link::Peer(old) => drop_unread(socket, &old),
            _ => VecDeque::new(),
        }
    };
    drop(unread);
    socket.outbox.wake();
}

/// Takes what a datagram socket has not received, now that this one is no longer its peer. With `LINKS` held; the messages are to be
/// dropped without.
fn drop_unread(socket: &UnixSocket, old: &UnixSocket) -> VecDeque<Message> {
    let unread = mem::take(&mut socket.state.lock().messages);
    let mut state = old.state.lock();
    if !unread.is_empty() && !state.is_closed && state.is_peer(socket) {
        state.error = Some(Errno(errno::ECONNRESET as usize));
        old.changed.wake_all();
    }
    unread
}

/// Gives up receiving, sending, or both. The peer of a connection gives up the other.
pub fn shut_down(socket: &UnixSocket, receives: bool, sends: bool) {
    let peer = {
        let _links = LINKS.lock();
        let mut state = socket.state.lock();
        state.receives_no_more |= receives;
        state.sends_no_more |= sends;
        let peer = state.peer().filter(|_| socket.kind != Kind::Datagram);
        drop(state);
        if let Some(peer) = &peer {
            let mut state = peer.state.lock();
            state.receives_no_more |= sends;
            state.sends_no_more |= receives;
        }
        peer
    };
    socket.wake();
    if let Some(peer) = peer {
        peer.wake();
    }
}

/// Closes a socket that no descriptor refers to any more, and those that were not accepted from it.
pub fn close(socket: &UnixSocket) {
    for end in close_one(socket, false) {
        close_one(&end, true);
    }
}

/// Returns what was not accepted from it. `is_lost`: it was not itself.
fn close_one(socket: &UnixSocket, is_lost: bool) -> VecDeque<Arc<UnixSocket>> {
    registry::forget(socket);
    let (unread, link, waiters) = {
        let _links = LINKS.lock();
        let mut state = socket.state.lock();
        state.is_closed = true;
        state.receives_no_more = true;
        state.sends_no_more = true;
        let unread = mem::take(&mut state.messages);
        let link = mem::replace(&mut state.link, Link::None);
        let waiters = state.take_waiters();
        drop(state);
        if let Link::Peer(peer) = &link
            && socket.kind != Kind::Datagram
        {
            let mut state = peer.state.lock();
            state.receives_no_more = true;
            state.sends_no_more = true;
            if is_lost || !unread.is_empty() {
                state.error = Some(Errno(errno::ECONNRESET as usize));
            }
        }
        (unread, link, waiters)
    };
    drop(unread);
    wake_waiters(waiters);
    match link {
        Link::Peer(peer) if socket.kind != Kind::Datagram => peer.wake(),
        Link::Listening { pending, .. } => return pending,
        _ => (),
    }
    VecDeque::new()
}
