//! What a local socket consists of.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use linux_raw_sys::net;

use crate::errno::Errno;
use crate::machine::sync::SpinLock;
use crate::net::credentials::PeerCredentials;
use crate::net::unix::message::{Message, Outbox};
use crate::net::unix::name::{Key, Name};
use crate::sched::wait::WaitQueue;
use crate::vfs::sleep_lock::SleepLock;

/// Datagrams that may wait at a socket that is not its sender's own peer, less one (Linux's `net.unix.max_dgram_qlen`).
const MAX_DATAGRAMS: usize = 10;

/// What kind of socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Bytes, to one peer.
    Stream = net::SOCK_STREAM as isize,
    /// Messages, to anybody.
    Datagram = net::SOCK_DGRAM as isize,
    /// Messages, to one peer.
    SeqPacket = net::SOCK_SEQPACKET as isize,
}

/// Whom a socket belongs to.
pub enum Link {
    /// Nobody.
    None,
    /// Others connect to it.
    Listening {
        /// So many may wait, and one more.
        backlog: usize,
        /// The ends of those that wait.
        pending: VecDeque<Arc<UnixSocket>>,
    },
    /// This one, which may be closed by now. A datagram socket's peer need not be its peer in turn.
    Peer(Arc<UnixSocket>),
}

/// What changes.
pub struct State {
    /// What it is bound to, once.
    pub name: Option<Arc<Name>>,
    /// How it is found by that name. An accepted one has its listener's name, and is not found.
    pub key: Option<Key>,
    /// Whom it belongs to.
    pub link: Link,
    /// What waits to be received.
    pub messages: VecDeque<Message>,
    /// It was shut down, or its peer was: nothing more comes.
    pub receives_no_more: bool,
    /// The same for sending.
    pub sends_no_more: bool,
    /// No descriptor refers to it any more.
    pub is_closed: bool,
    /// What has happened to it.
    pub error: Option<Errno>,
    /// Whom it is connected to.
    pub peer_credentials: PeerCredentials,
    /// Those who have found no room here.
    waiters: Vec<Weak<UnixSocket>>,
}

impl State {
    /// Whether others connect to it.
    pub fn is_listening(&self) -> bool {
        matches!(self.link, Link::Listening { .. })
    }

    /// Its peer.
    pub fn peer(&self) -> Option<Arc<UnixSocket>> {
        match &self.link {
            Link::Peer(peer) => Some(peer.clone()),
            _ => None,
        }
    }

    /// Whether its peer is this one.
    pub fn is_peer(&self, socket: &UnixSocket) -> bool {
        matches!(&self.link, Link::Peer(peer) if core::ptr::eq(&**peer, socket))
    }

    /// Has `socket` woken when there is room here.
    pub fn add_waiter(&mut self, socket: &UnixSocket) {
        socket.outbox.await_room();
        self.waiters.retain(|waiter| waiter.strong_count() > 0);
        if !self.waiters.iter().any(|waiter| core::ptr::eq(waiter.as_ptr(), socket)) {
            self.waiters.push(socket.this.clone());
        }
    }

    /// Takes those who wait for room: to be woken without the lock.
    pub fn take_waiters(&mut self) -> Vec<Weak<UnixSocket>> {
        mem::take(&mut self.waiters)
    }

    /// Whether so many datagrams wait that only the peer may send more.
    pub fn is_full(&self) -> bool {
        self.messages.len() > MAX_DATAGRAMS
    }
}

/// Wakes those who waited for room.
pub fn wake_waiters(waiters: Vec<Weak<UnixSocket>>) {
    for waiter in waiters.iter().filter_map(Weak::upgrade) {
        waiter.outbox.wake();
    }
}

/// A socket, referred to by a descriptor, by its peer, or not accepted yet.
pub struct UnixSocket {
    /// Itself.
    pub this: Weak<UnixSocket>,
    /// What kind.
    pub kind: Kind,
    /// What changes.
    pub state: SpinLock<State>,
    /// Who holds it is the only one who takes from a stream.
    pub reading: SleepLock<()>,
    /// Who holds it is the only one who gives it a name.
    pub binding: SleepLock<()>,
    /// Woken when something can be received or accepted, or never will be.
    pub changed: WaitQueue,
    /// How often that was.
    pub arrivals: AtomicU64,
    /// What it has sent.
    pub outbox: Arc<Outbox>,
    /// SO_PASSCRED.
    pub passes_credentials: AtomicBool,
}

impl UnixSocket {
    /// One that is alone.
    pub fn new(kind: Kind) -> Arc<UnixSocket> {
        Arc::new_cyclic(|this| UnixSocket {
            this: this.clone(),
            kind,
            state: SpinLock::new(State {
                name: None,
                key: None,
                link: Link::None,
                messages: VecDeque::new(),
                receives_no_more: false,
                sends_no_more: false,
                is_closed: false,
                error: None,
                peer_credentials: PeerCredentials::NOBODY,
                waiters: Vec::new(),
            }),
            reading: SleepLock::new(()),
            binding: SleepLock::new(()),
            changed: WaitQueue::new(),
            arrivals: AtomicU64::new(0),
            outbox: Outbox::new(),
            passes_credentials: AtomicBool::new(false),
        })
    }

    /// Its peer.
    pub fn peer(&self) -> Option<Arc<UnixSocket>> {
        self.state.lock().peer()
    }

    /// Tells whoever waits that something has come, or is over.
    pub fn wake(&self) {
        self.arrivals.fetch_add(1, Relaxed);
        self.changed.wake_all();
        self.outbox.wake();
    }

    /// The same where it is but something to receive or accept.
    pub fn wake_receivers(&self) {
        self.arrivals.fetch_add(1, Relaxed);
        self.changed.wake_all();
    }

    /// Whether `sender`, whose peer it is, could send it a datagram now. If not, the sender is woken when it can.
    pub fn takes_from(&self, sender: &UnixSocket) -> bool {
        let mut state = self.state.lock();
        let takes = core::ptr::eq(self, sender) || state.is_peer(sender) || state.is_closed || !state.is_full();
        if !takes {
            state.add_waiter(sender);
        }
        takes
    }

    /// Whether messages from here to there say whom they are from.
    pub fn tells_credentials(&self, to: &UnixSocket) -> bool {
        self.passes_credentials.load(Relaxed) || to.passes_credentials.load(Relaxed)
    }
}
