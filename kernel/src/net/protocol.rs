//! What a kind of socket does.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::net::credentials::PeerCredentials;
use crate::net::patience::Patience;
use crate::sched::wait::PollTable;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::File;

/// What a call sends.
pub struct Outgoing<'a, 'b> {
    /// The bytes.
    pub bytes: &'a mut Source<'b>,
    /// Where to, as a `sockaddr`; None: to the peer.
    pub to: Option<&'a [u8]>,
    /// Descriptors' files that go with it.
    pub files: Vec<Arc<File>>,
    /// Whom it is from, if the sender says so.
    pub credentials: Option<PeerCredentials>,
    /// `MSG_*`.
    pub flags: u32,
    /// How long it waits.
    pub patience: Patience,
}

/// What a call receives into.
pub struct Incoming<'a, 'b> {
    /// Where the bytes go.
    pub bytes: &'a mut Destination<'b>,
    /// `MSG_*`.
    pub flags: u32,
    /// A stream waits for so many bytes, or all that there is room for (`SO_RCVLOWAT`, `MSG_WAITALL`).
    pub at_least: usize,
    /// How long it waits.
    pub patience: Patience,
}

/// What a call has received.
#[derive(Default)]
pub struct Received {
    /// Bytes that were copied.
    pub len: usize,
    /// Bytes of the message, of which some may be lost.
    pub message_len: usize,
    /// Whom it is from, as a `sockaddr`; empty if that has no name.
    pub from: Vec<u8>,
    /// Files that came with it.
    pub files: Vec<Arc<File>>,
    /// The sender's credentials, if the receiver wants them.
    pub credentials: Option<PeerCredentials>,
    /// `MSG_*` that the call reports.
    pub flags: u32,
}

/// A socket of one kind. The defaults are what a kind answers that has no such operation.
pub trait Protocol: Send + Sync {
    /// Address family, type and protocol.
    fn kind(&self) -> (u32, u32, u32);

    /// Gives it a name, which comes as a `sockaddr`.
    fn bind(&self, name: &[u8]) -> Result<()>;

    /// Lets others connect, as many as `backlog` before they are accepted.
    fn listen(&self, _backlog: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether others may connect.
    fn is_listening(&self) -> bool {
        false
    }

    /// Connects it to the socket of that name.
    fn connect(&self, name: &[u8], patience: Patience) -> Result<()>;

    /// The next connection.
    fn accept(&self, _patience: Patience) -> Result<Box<dyn Protocol>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives up receiving, sending, or both.
    fn shut_down(&self, receives: bool, sends: bool) -> Result<()>;

    /// Its name, as a `sockaddr`.
    fn name(&self) -> Vec<u8>;

    /// Its peer's; ENOTCONN if it has none.
    fn peer_name(&self) -> Result<Vec<u8>>;

    /// Sends; returns how many bytes.
    fn send(&self, outgoing: Outgoing) -> Result<usize>;

    /// Receives.
    fn receive(&self, incoming: Incoming) -> Result<Received>;

    /// As [`FileOps::poll`](crate::vfs::file::FileOps::poll).
    fn poll(&self, table: Option<&PollTable>) -> u32;

    /// As [`FileOps::edges`](crate::vfs::file::FileOps::edges).
    fn edges(&self) -> u64;

    /// Bytes that a read would find.
    fn unread(&self) -> Result<usize>;

    /// Bytes that were sent and that nobody has received.
    fn unsent(&self) -> Result<usize>;

    /// The error of what has failed behind the caller's back, once.
    fn take_error(&self) -> Option<Errno>;

    /// Whom it is connected to.
    fn peer_credentials(&self) -> PeerCredentials {
        PeerCredentials::NOBODY
    }

    /// Whether messages come with their senders' credentials.
    fn passes_credentials(&self) -> bool {
        false
    }

    /// Has messages come with their senders' credentials.
    fn set_passes_credentials(&self, _on: bool) {}

    /// It may have so many bytes that were sent and not received.
    fn set_send_buffer(&self, _bytes: usize) {}

    /// An option of the level SOL_SOCKET, kept with all others, has changed. `linger`: what SO_LINGER is.
    fn common_option_changed(&self, _name: u32, _value: u32, _linger: [u32; 2]) {}

    /// Sets an option of the protocol's own.
    fn set_option(&self, _level: u32, _name: u32, _value: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// An option of the protocol's own.
    fn option(&self, _level: u32, _name: u32) -> Result<u32> {
        Err(Errno::EOPNOTSUPP)
    }
}
