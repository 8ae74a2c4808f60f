//! What is kept of a stream socket.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::errno::Errno;
use crate::net::inet::address::Endpoint;
use crate::sched::wait::WaitQueue;

/// Who is told when something changes.
#[derive(Default)]
pub struct Notice {
    /// Those who wait.
    pub changed: WaitQueue,
    /// How often it was.
    edges: AtomicU64,
}

impl Notice {
    /// Something has changed.
    pub fn wake(&self) {
        self.edges.fetch_add(1, Relaxed);
        self.changed.wake_all();
    }

    /// How often something has.
    pub fn edges(&self) -> u64 {
        self.edges.load(Relaxed)
    }
}

/// A connection that was not accepted yet.
pub struct Waiting {
    /// Its end in the stack.
    pub handle: SocketHandle,
    /// This side.
    pub local: Endpoint,
    /// The other.
    pub peer: Endpoint,
}

/// What a socket is for.
pub enum Role {
    /// Nothing yet.
    Alone,
    /// Others connect to it.
    Listening {
        /// So many may wait, and one more.
        backlog: usize,
        /// The end that the next one will have; None: too many wait.
        spare: Option<SocketHandle>,
        /// Ends of those who are connecting.
        starting: Vec<SocketHandle>,
        /// Those who have.
        pending: VecDeque<Waiting>,
    },
    /// It is one end of a connection, or was.
    Connection {
        /// In the stack.
        handle: SocketHandle,
        /// connect(2) has not reported how it went.
        is_connecting: bool,
    },
}

/// A connection as it was at the last look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Its state.
    pub state: State,
    /// Bytes that can be read.
    pub unread: usize,
    /// Bytes that the other side has not taken.
    pub unsent: usize,
}

impl Look {
    /// Nothing was there.
    pub const NOTHING: Look = Look { state: State::Closed, unread: 0, unsent: 0 };
}

/// A stream socket.
pub struct End {
    /// Who is told of changes.
    pub notice: Arc<Notice>,
    /// What it is for.
    pub role: Role,
    /// Its address; port 0: none.
    pub local: Endpoint,
    /// Its peer's.
    pub peer: Endpoint,
    /// What has happened to it.
    pub error: Option<Errno>,
    /// It was shut down for reading.
    pub receives_no_more: bool,
    /// It was shut down for writing.
    pub sends_no_more: bool,
    /// Somebody has found no room.
    pub awaits_room: bool,
    /// TCP_NODELAY.
    pub has_no_delay: bool,
    /// SO_LINGER with no time: what it has sent is lost when it is closed.
    pub resets_on_close: bool,
    /// The last look.
    pub last: Look,
}

impl End {
    /// One that is alone.
    pub fn new() -> End {
        End {
            notice: Arc::default(),
            role: Role::Alone,
            local: Endpoint::NONE,
            peer: Endpoint::NONE,
            error: None,
            receives_no_more: false,
            sends_no_more: false,
            awaits_room: false,
            has_no_delay: false,
            resets_on_close: false,
            last: Look::NOTHING,
        }
    }

    /// Its end in the stack, if it has a connection.
    pub fn handle(&self) -> Option<SocketHandle> {
        match self.role {
            Role::Connection { handle, .. } => Some(handle),
            _ => None,
        }
    }

    /// Whether others can connect to this endpoint, and too many wait here.
    pub fn is_full_at(&self, target: Endpoint) -> bool {
        matches!(self.role, Role::Listening { spare: None, .. }) && self.local.takes(target)
    }
}
