//! Streams: bytes in order, and what goes with some of them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{errno, net};

use crate::errno::{Errno, Result};
use crate::net::credentials::PeerCredentials;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Received};
use crate::net::unix::message::{InFlight, Message, take_bytes};
use crate::net::unix::name::Name;
use crate::net::unix::socket::UnixSocket;
use crate::task::current;
use crate::vfs::buffer::Source;
use crate::vfs::file::File;

/// Bytes that go over at once, at most.
const PIECE: usize = 32 << 10;

/// Sends all bytes. If it cannot send more, for whatever reason, it returns how many it has sent.
pub fn send(socket: &UnixSocket, outgoing: Outgoing) -> Result<usize> {
    let Outgoing { bytes, to, files, credentials, patience, .. } = outgoing;
    let peer = {
        let state = socket.state.lock();
        let peer = state.peer();
        if to.is_some() {
            return Err(if peer.is_some() { Errno(errno::EISCONN as usize) } else { Errno::EOPNOTSUPP });
        }
        let peer = peer.ok_or(Errno(errno::ENOTCONN as usize))?;
        if state.sends_no_more {
            return Err(Errno::EPIPE);
        }
        peer
    };
    let mut files = Some(InFlight::of_current(files)?);
    let mut sent = 0;
    while bytes.remaining() > 0 {
        match send_piece(socket, &peer, bytes, &mut files, credentials, patience) {
            Ok(len) => sent += len,
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}

fn send_piece(
    socket: &UnixSocket,
    peer: &UnixSocket,
    from: &mut Source,
    files: &mut Option<InFlight>,
    credentials: Option<PeerCredentials>,
    patience: Patience,
) -> Result<usize> {
    let len = from.remaining().min(PIECE).min(socket.outbox.limit() / 2);
    let charge = patience.wait(&socket.outbox.room, || {
        // In this order: whoever ends the connection between the two wakes us.
        let charge = socket.outbox.charge(len);
        if socket.state.lock().sends_no_more { Some(Err(Errno::EPIPE)) } else { charge.map(Ok) }
    })??;
    let bytes = take_bytes(from, len)?;
    let tells = || socket.tells_credentials(peer).then(|| PeerCredentials::real(&current().process));
    let credentials = credentials.or_else(tells);
    let from = socket.state.lock().name.clone();
    let files = match files.take() {
        Some(files) => files,
        None => InFlight::of_current(Vec::new())?,
    };
    let message = Message { bytes, start: 0, from, credentials, files, _charge: charge };
    put(peer, message)?;
    peer.wake_receivers();
    Ok(len)
}

fn put(peer: &UnixSocket, message: Message) -> Result<()> {
    let mut state = peer.state.lock();
    if state.is_closed || state.receives_no_more {
        return Err(Errno::EPIPE);
    }
    state.messages.push_back(message);
    Ok(())
}

/// What is to be seen of a message without taking it.
struct View {
    bytes: Arc<Vec<u8>>,
    start: usize,
    from: Option<Arc<Name>>,
    credentials: Option<PeerCredentials>,
}

/// Receives what is there, and waits until that is enough.
pub fn receive(socket: &UnixSocket, incoming: Incoming) -> Result<Received> {
    if socket.peer().is_none() {
        return Err(Errno::EINVAL);
    }
    let mut received = Received::default();
    let result = receive_pieces(socket, incoming, &mut received);
    received.message_len = received.len;
    if received.len == 0 {
        result?;
    }
    Ok(received)
}

fn receive_pieces(socket: &UnixSocket, incoming: Incoming, received: &mut Received) -> Result<()> {
    let Incoming { bytes, flags, at_least, patience } = incoming;
    let peeks = flags & net::MSG_PEEK != 0;
    let wants_credentials = socket.passes_credentials.load(Relaxed);
    // The message that is looked at.
    let mut index = 0;
    loop {
        let reading = socket.reading.lock();
        let Some(view) = look(socket, index) else {
            drop(reading);
            if received.len >= at_least || is_over(socket, index)? {
                return Ok(());
            }
            patience.wait(&socket.changed, || has_news(socket, index).then_some(()))?;
            continue;
        };
        let credentials = wants_credentials.then_some(view.credentials.unwrap_or(PeerCredentials::NOBODY));
        if received.len == 0 {
            received.from = view.from.as_ref().map_or(Vec::new(), |name| Name::to_sockaddr(Some(name)));
            received.credentials = credentials;
        } else if received.credentials != credentials {
            // What different senders have sent is not mixed.
            return Ok(());
        }
        let rest = &view.bytes[view.start..];
        let len = rest.len().min(bytes.remaining());
        bytes.put(&rest[..len])?;
        received.len += len;
        if peeks {
            received.files = copies_of_files(socket, index);
            index += 1;
        } else {
            received.files = consume(socket, len);
        }
        if !received.files.is_empty() || bytes.remaining() == 0 {
            return Ok(());
        }
    }
}

fn look(socket: &UnixSocket, index: usize) -> Option<View> {
    let state = socket.state.lock();
    let message = state.messages.get(index)?;
    Some(View {
        bytes: message.bytes.clone(),
        start: message.start,
        from: message.from.clone(),
        credentials: message.credentials,
    })
}

/// Whether nothing more comes; the error that says why, once.
fn is_over(socket: &UnixSocket, index: usize) -> Result<bool> {
    let mut state = socket.state.lock();
    if state.messages.len() > index {
        return Ok(false);
    }
    match state.error.take() {
        Some(error) => Err(error),
        None => Ok(state.receives_no_more),
    }
}

fn has_news(socket: &UnixSocket, index: usize) -> bool {
    let state = socket.state.lock();
    state.messages.len() > index || state.error.is_some() || state.receives_no_more
}

fn copies_of_files(socket: &UnixSocket, index: usize) -> Vec<Arc<File>> {
    let state = socket.state.lock();
    state.messages.get(index).map_or(Vec::new(), |message| message.files.copies())
}

/// The next `len` bytes of the first message have been received, and what goes with them. With `reading` held.
fn consume(socket: &UnixSocket, len: usize) -> Vec<Arc<File>> {
    // Dropped without the lock: that wakes the sender.
    let _done;
    let mut state = socket.state.lock();
    let Some(message) = state.messages.front_mut() else {
        // It was closed meanwhile.
        return Vec::new();
    };
    message.start += len;
    let files = message.files.take();
    _done = if message.remaining() == 0 { state.messages.pop_front() } else { None };
    files
}
