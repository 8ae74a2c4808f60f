//! The stack of TCP, and all that is in it, behind one lock.
//!
//! Whoever changes something runs the stack until no packet is on its way ([`Stack::run`]), with interrupts off. What that takes is bounded by
//! the buffers of the sockets. A request to connect whose listener is full is held back until it is not; all other packets arrive at once.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::errno;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::memory::frames;
use crate::net::inet::address::Endpoint;
use crate::net::inet::end::{End, Look, Role, Waiting};
use crate::net::inet::wire::Wire;
use crate::task::system_info::fill_random;

/// Bytes that may be sent and not received, in each direction of a connection: the sender's and the receiver's buffer.
const BUFFER: usize = 64 << 10;

static STACK: SpinLock<Option<Stack>> = SpinLock::new(None);

/// All sockets.
pub struct Stack {
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    /// By the numbers of their sockets.
    pub ends: BTreeMap<u64, End>,
    /// Ends that no socket refers to, until they are closed.
    orphans: Vec<SocketHandle>,
}

/// Does something with the stack.
pub fn with<T>(action: impl FnOnce(&mut Stack) -> T) -> T {
    action(STACK.lock().get_or_insert_with(Stack::new))
}

/// ENOMEM unless there is memory for a connection and those who accept it.
pub fn require_memory() -> Result<()> {
    frames::require(4 * 2 * BUFFER as u64)
}

fn now() -> Instant {
    Instant::from_micros((time::now() / 1000) as i64)
}

fn remote(endpoint: Endpoint) -> IpEndpoint {
    IpEndpoint::new(IpAddress::Ipv4(endpoint.address), endpoint.port)
}

fn local(endpoint: Endpoint) -> IpListenEndpoint {
    let addr = (!endpoint.address.is_unspecified()).then_some(IpAddress::Ipv4(endpoint.address));
    IpListenEndpoint { addr, port: endpoint.port }
}

fn known(endpoint: Option<IpEndpoint>) -> Endpoint {
    endpoint.map_or(Endpoint::NONE, |IpEndpoint { addr: IpAddress::Ipv4(address), port }| Endpoint { address, port })
}

impl Stack {
    fn new() -> Stack {
        let mut seed = [0; 8];
        fill_random(&mut seed);
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = u64::from_ne_bytes(seed);
        let mut interface = Interface::new(config, &mut wire, now());
        interface.update_ip_addrs(|addresses| {
            // The list has room for one at least.
            let _ = addresses.push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8));
        });
        // All of 127.0.0.0/8 is this machine.
        interface.set_any_ip(true);
        Stack { interface, wire, sockets: SocketSet::new(vec![]), ends: BTreeMap::new(), orphans: Vec::new() }
    }

    fn add(&mut self) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        // Nothing would send a delayed acknowledgement.
        socket.set_ack_delay(None);
        self.sockets.add(socket)
    }

    /// A connection's end in the stack.
    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The end of a socket that is open.
    pub fn end(&mut self, id: u64) -> Result<&mut End> {
        self.ends.get_mut(&id).ok_or(Errno::EINVAL)
    }

    fn look(&self, handle: SocketHandle) -> Look {
        let socket = self.sockets.get::<Socket>(handle);
        Look { state: socket.state(), unread: socket.recv_queue(), unsent: socket.send_queue() }
    }

    /// Notes what a socket itself has changed: it is not told of that.
    pub fn note(&mut self, id: u64) {
        let Some(handle) = self.ends.get(&id).and_then(End::handle) else { return };
        let look = self.look(handle);
        if let Some(end) = self.ends.get_mut(&id) {
            end.last = look;
        }
    }

    /// Begins to connect a socket that is alone and has an address.
    pub fn connect(&mut self, id: u64, target: Endpoint) -> Result<()> {
        let handle = self.add();
        let end = self.ends.get_mut(&id).ok_or(Errno::EINVAL)?;
        if end.local.address.is_unspecified() {
            end.local.address = core::net::Ipv4Addr::LOCALHOST;
        }
        end.peer = target;
        end.role = Role::Connection { handle, is_connecting: true };
        let (own, has_no_delay) = (end.local, end.has_no_delay);
        let socket = self.sockets.get_mut::<Socket>(handle);
        socket.set_nagle_enabled(!has_no_delay);
        let connected = socket.connect(self.interface.context(), remote(target), local(own));
        if connected.is_err() {
            self.disconnect(id);
            return Err(Errno(errno::EADDRNOTAVAIL as usize));
        }
        self.note(id);
        self.run();
        Ok(())
    }

    /// Takes a connection away that has failed.
    pub fn disconnect(&mut self, id: u64) {
        if let Some(end) = self.ends.get_mut(&id)
            && let Role::Connection { handle, .. } = end.role
        {
            end.role = Role::Alone;
            end.peer = Endpoint::NONE;
            end.last = Look::NOTHING;
            self.sockets.remove(handle);
        }
    }

    /// Lets others connect to a socket that has an address, or changes how many.
    pub fn listen(&mut self, id: u64, room: usize) -> Result<()> {
        let end = self.end(id)?;
        match &mut end.role {
            Role::Alone => {
                end.role =
                    Role::Listening { backlog: room, spare: None, starting: Vec::new(), pending: VecDeque::new() };
            }
            Role::Listening { backlog, .. } => *backlog = room,
            Role::Connection { .. } => return Err(Errno::EINVAL),
        }
        self.refill(id);
        self.run();
        Ok(())
    }

    /// The next that has connected to a socket. EINVAL if it does not listen.
    pub fn accept(&mut self, id: u64) -> Result<Option<Waiting>> {
        let Role::Listening { pending, .. } = &mut self.end(id)?.role else {
            return Err(Errno::EINVAL);
        };
        let waiting = pending.pop_front();
        if waiting.is_some() {
            self.refill(id);
            self.run();
        }
        Ok(waiting)
    }

    /// Sorts who has connected to a listener, and makes it ready for the next.
    fn refill(&mut self, id: u64) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Role::Listening { backlog, spare, starting, pending } = &mut end.role else { return };
        if let Some(handle) = *spare
            && self.sockets.get::<Socket>(handle).state() != State::Listen
        {
            starting.push(handle);
            *spare = None;
        }
        let sockets = &mut self.sockets;
        let before = pending.len();
        starting.retain(|&handle| {
            let socket = sockets.get::<Socket>(handle);
            match socket.state() {
                State::SynReceived => true,
                // It has given up.
                State::Listen | State::Closed => {
                    sockets.remove(handle);
                    false
                }
                _ => {
                    let (local, peer) = (known(socket.local_endpoint()), known(socket.remote_endpoint()));
                    pending.push_back(Waiting { handle, local, peer });
                    false
                }
            }
        });
        if pending.len() > before {
            end.notice.wake();
        }
        let has_room = starting.len() + pending.len() <= *backlog;
        let local = local(end.local);
        if spare.is_none() && has_room && require_memory().is_ok() {
            let handle = self.add();
            if self.sockets.get_mut::<Socket>(handle).listen(local).is_err() {
                self.sockets.remove(handle);
                return;
            }
            if let Some(End { role: Role::Listening { spare, .. }, .. }) = self.ends.get_mut(&id) {
                *spare = Some(handle);
            }
        }
    }

    /// Runs the stack until nothing is on its way, and tells everybody what has changed.
    pub fn run(&mut self) {
        let now = now();
        let listeners: Vec<u64> =
            self.ends.iter().filter(|(_, end)| matches!(end.role, Role::Listening { .. })).map(|(&id, _)| id).collect();
        loop {
            let ends = &self.ends;
            let is_full = |target: Endpoint| ends.values().any(|end| end.is_full_at(target));
            self.wire.release(is_full);
            if self.wire.hold_next(is_full) {
                continue;
            }
            match self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets) {
                PollIngressSingleResult::None => (),
                _ => {
                    listeners.iter().for_each(|&id| self.refill(id));
                    continue;
                }
            }
            let sent = self.interface.poll_egress(now, &mut self.wire, &mut self.sockets);
            if sent == PollResult::None && self.wire.is_empty() && !self.bury() {
                break;
            }
        }
        self.tell();
    }

    /// Removes ends without a socket that are closed. Resets those to which somebody has sent something: whether there were such.
    fn bury(&mut self) -> bool {
        let mut has_reset = false;
        let sockets = &mut self.sockets;
        self.orphans.retain(|&handle| {
            let socket = sockets.get_mut::<Socket>(handle);
            let is_over = match socket.state() {
                // A reset is sent, or was received.
                State::Closed => socket.remote_endpoint().is_none(),
                // Nothing comes late.
                State::TimeWait => true,
                _ => {
                    if socket.recv_queue() > 0 {
                        socket.abort();
                        has_reset = true;
                    }
                    false
                }
            };
            if is_over {
                sockets.remove(handle);
            }
            !is_over
        });
        has_reset
    }

    fn tell(&mut self) {
        for end in self.ends.values_mut() {
            let Role::Connection { handle, is_connecting } = end.role else { continue };
            let socket = self.sockets.get::<Socket>(handle);
            let look = Look { state: socket.state(), unread: socket.recv_queue(), unsent: socket.send_queue() };
            let last = core::mem::replace(&mut end.last, look);
            if look == last {
                continue;
            }
            let was_reset = look.state == State::Closed && !matches!(last.state, State::LastAck | State::TimeWait);
            if was_reset && last.state != State::Closed {
                let error = match last.state {
                    _ if is_connecting && matches!(last.state, State::SynSent | State::SynReceived) => {
                        errno::ECONNREFUSED
                    }
                    State::CloseWait => errno::EPIPE,
                    _ => errno::ECONNRESET,
                };
                end.error = Some(Errno(error as usize));
            }
            let has_room = look.unsent < last.unsent && end.awaits_room;
            if look.state != last.state || look.unread > last.unread || has_room {
                end.awaits_room &= !has_room;
                end.notice.wake();
            }
        }
    }

    /// A connection's socket has nothing more to send.
    pub fn finish(&mut self, id: u64) {
        if let Some(handle) = self.ends.get(&id).and_then(End::handle) {
            self.socket(handle).close();
            self.note(id);
            self.run();
        }
    }

    /// Stops listening: those who were not accepted are reset.
    pub fn stop_listening(&mut self, id: u64) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if !matches!(end.role, Role::Listening { .. }) {
            return;
        }
        if let Role::Listening { spare, starting, pending, .. } = core::mem::replace(&mut end.role, Role::Alone) {
            end.notice.wake();
            if let Some(spare) = spare {
                self.sockets.remove(spare);
            }
            for handle in starting.into_iter().chain(pending.into_iter().map(|waiting| waiting.handle)) {
                self.sockets.get_mut::<Socket>(handle).abort();
                self.orphans.push(handle);
            }
        }
        self.run();
    }

    /// Closes a socket that no descriptor refers to.
    pub fn close(&mut self, id: u64) {
        self.stop_listening(id);
        let Some(end) = self.ends.remove(&id) else { return };
        if let Role::Connection { handle, .. } = end.role {
            let socket = self.sockets.get_mut::<Socket>(handle);
            if socket.recv_queue() > 0 || end.resets_on_close {
                socket.abort();
            } else {
                socket.close();
            }
            self.orphans.push(handle);
        }
        self.run();
    }
}
