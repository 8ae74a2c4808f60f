//! Streams: SOCK_STREAM.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use linux_raw_sys::{errno, general as abi, net};
use smoltcp::socket::tcp::{RecvError, State};

use crate::errno::{Errno, Result};
use crate::memory::{frames, new_ino};
use crate::net::inet::address::{Endpoint, is_unspecified};
use crate::net::inet::end::{End, Notice, Role};
use crate::net::inet::options::LevelOptions;
use crate::net::inet::ports::Ports;
use crate::net::inet::stack;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Protocol, Received};
use crate::sched::wait::PollTable;
use crate::vfs::sleep_lock::SleepLock;

/// Bytes that are copied at once, at most.
const PIECE: usize = 16 << 10;

const NOT_CONNECTED: Errno = Errno(errno::ENOTCONN as usize);
const IS_CONNECTED: Errno = Errno(errno::EISCONN as usize);
const TCP: u32 = net::IPPROTO_TCP as u32;

static PORTS: Ports = Ports::new();

/// A stream socket.
pub struct Tcp {
    /// Its number in the stack.
    id: u64,
    notice: Arc<Notice>,
    options: LevelOptions,
    /// SO_REUSEADDR.
    shares_port: AtomicBool,
    /// Who holds it is the only one who receives, or sends.
    reading: SleepLock<()>,
    writing: SleepLock<()>,
}

impl Tcp {
    /// One that is alone.
    pub fn new() -> Tcp {
        Tcp::with_end(End::new())
    }

    fn with_end(end: End) -> Tcp {
        let id = new_ino();
        let notice = end.notice.clone();
        stack::with(|stack| stack.ends.insert(id, end));
        Tcp {
            id,
            notice,
            options: LevelOptions::default(),
            shares_port: AtomicBool::new(false),
            reading: SleepLock::new(()),
            writing: SleepLock::new(()),
        }
    }

    fn with_end_of<T>(&self, action: impl FnOnce(&mut End) -> Result<T>) -> Result<T> {
        stack::with(|stack| stack.end(self.id).and_then(action))
    }

    /// Gives it a port, unless it has one.
    fn take_port(&self, wanted: Endpoint) -> Result<()> {
        if self.with_end_of(|end| Ok(end.local.port))? != 0 {
            return Ok(());
        }
        let local = PORTS.take(self.id, wanted, self.shares_port.load(Relaxed))?;
        self.with_end_of(|end| {
            end.local = local;
            Ok(())
        })
    }

    /// How connecting went, once it is decided.
    fn connected(&self) -> Option<Result<()>> {
        stack::with(|stack| {
            let end = match stack.end(self.id) {
                Ok(end) => end,
                Err(error) => return Some(Err(error)),
            };
            let Role::Connection { is_connecting, .. } = &mut end.role else {
                return Some(Err(NOT_CONNECTED));
            };
            match end.last.state {
                State::SynSent | State::SynReceived => None,
                State::Closed => {
                    let error = end.error.take().unwrap_or(Errno(errno::ECONNABORTED as usize));
                    stack.disconnect(self.id);
                    Some(Err(error))
                }
                _ => {
                    *is_connecting = false;
                    Some(Ok(()))
                }
            }
        })
    }

    /// Copies up to `buffer.len()` bytes that were received, without taking them. None: there are none yet; 0: there will be none.
    fn look(&self, buffer: &mut [u8]) -> Option<Result<usize>> {
        stack::with(|stack| {
            let end = match stack.end(self.id) {
                Ok(end) => end,
                Err(error) => return Some(Err(error)),
            };
            let Some(handle) = end.handle() else {
                return Some(Err(NOT_CONNECTED));
            };
            if matches!(end.last.state, State::SynSent | State::SynReceived) {
                return None;
            }
            let receives_no_more = end.receives_no_more;
            let socket = stack.socket(handle);
            if socket.recv_queue() > 0 {
                // It copies from a ring.
                return Some(socket.peek_slice(buffer).map_err(|_| NOT_CONNECTED));
            }
            let is_over = matches!(socket.peek(1), Err(RecvError::Finished | RecvError::InvalidState));
            let Ok(end) = stack.end(self.id) else { return Some(Ok(0)) };
            match end.error.take() {
                Some(Errno::EPIPE) | None => (is_over || receives_no_more).then_some(Ok(0)),
                Some(error) => Some(Err(error)),
            }
        })
    }

    /// Takes bytes that were looked at. With `reading` held.
    fn consume(&self, bytes: &mut [u8]) {
        stack::with(|stack| {
            let Some(handle) = stack.ends.get(&self.id).and_then(End::handle) else { return };
            // As many as there were: nobody else takes any.
            let _ = stack.socket(handle).recv_slice(bytes);
            stack.note(self.id);
            stack.run();
        });
    }

    /// How many bytes there is room for. None: for none yet.
    fn room(&self) -> Option<Result<usize>> {
        stack::with(|stack| {
            let end = match stack.end(self.id) {
                Ok(end) => end,
                Err(error) => return Some(Err(error)),
            };
            if let Some(error) = end.error.take() {
                return Some(Err(error));
            }
            if end.sends_no_more {
                return Some(Err(Errno::EPIPE));
            }
            let Some(handle) = end.handle() else {
                return Some(Err(Errno::EPIPE));
            };
            match end.last.state {
                State::SynSent | State::SynReceived => return None,
                State::Established | State::CloseWait => (),
                _ => return Some(Err(Errno::EPIPE)),
            }
            end.awaits_room = true;
            let socket = stack.socket(handle);
            let room = socket.send_capacity() - socket.send_queue();
            (room > 0).then_some(Ok(room))
        })
    }

    fn put(&self, bytes: &[u8]) -> Result<usize> {
        stack::with(|stack| {
            let handle = stack.end(self.id)?.handle().ok_or(Errno::EPIPE)?;
            let sent = stack.socket(handle).send_slice(bytes).map_err(|_| Errno::EPIPE)?;
            stack.note(self.id);
            stack.run();
            Ok(sent)
        })
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        stack::with(|stack| stack.close(self.id));
        PORTS.release(self.id);
    }
}

impl Protocol for Tcp {
    fn kind(&self) -> (u32, u32, u32) {
        (net::AF_INET, net::SOCK_STREAM, TCP)
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let wanted = Endpoint::from_sockaddr(name)?.as_own()?;
        if self.with_end_of(|end| Ok(end.local.port != 0 || !matches!(end.role, Role::Alone)))? {
            return Err(Errno::EINVAL);
        }
        PORTS.may_choose(wanted.port)?;
        self.take_port(wanted)
    }

    fn listen(&self, backlog: u32) -> Result<()> {
        self.take_port(Endpoint::NONE)?;
        stack::require_memory()?;
        PORTS.listen(self.id)?;
        stack::with(|stack| stack.listen(self.id, backlog as usize))
    }

    fn is_listening(&self) -> bool {
        self.with_end_of(|end| Ok(matches!(end.role, Role::Listening { .. }))).unwrap_or(false)
    }

    fn connect(&self, name: &[u8], patience: Patience) -> Result<()> {
        if is_unspecified(name) {
            stack::with(|stack| {
                if let Some(handle) = stack.ends.get(&self.id).and_then(End::handle) {
                    stack.socket(handle).abort();
                    stack.run();
                    stack.disconnect(self.id);
                }
            });
            return Ok(());
        }
        let target = Endpoint::from_sockaddr(name)?.as_destination()?;
        let was_connecting = self.with_end_of(|end| match end.role {
            Role::Alone => Ok(false),
            Role::Connection { is_connecting: true, .. } => Ok(true),
            _ => Err(IS_CONNECTED),
        })?;
        if target.port == 0 {
            // Nobody can have it.
            return Err(Errno(errno::ECONNREFUSED as usize));
        }
        if !was_connecting {
            stack::require_memory()?;
            self.take_port(Endpoint::NONE)?;
            stack::with(|stack| stack.connect(self.id, target))?;
            self.with_end_of(|end| {
                PORTS.settle(self.id, end.local.address);
                Ok(())
            })?;
            if patience.is_none() {
                return Err(Errno::EINPROGRESS);
            }
        }
        let result = patience.wait(&self.notice.changed, || self.connected());
        match result {
            Err(Errno::EAGAIN) if was_connecting => Err(Errno(errno::EALREADY as usize)),
            // The time is up, and it goes on.
            Err(Errno::EAGAIN) => Err(Errno::EINPROGRESS),
            result => result?,
        }
    }

    fn accept(&self, patience: Patience) -> Result<Box<dyn Protocol>> {
        let waiting =
            patience.wait(&self.notice.changed, || stack::with(|stack| stack.accept(self.id)).transpose())??;
        let mut end = End::new();
        end.local = waiting.local;
        end.peer = waiting.peer;
        end.role = Role::Connection { handle: waiting.handle, is_connecting: false };
        // As its listener is.
        (end.has_no_delay, end.resets_on_close) =
            self.with_end_of(|listener| Ok((listener.has_no_delay, listener.resets_on_close))).unwrap_or_default();
        let has_no_delay = end.has_no_delay;
        let mut socket = Tcp::with_end(end);
        socket.options = self.options.copy();
        stack::with(|stack| {
            stack.socket(waiting.handle).set_nagle_enabled(!has_no_delay);
            stack.note(socket.id);
        });
        Ok(Box::new(socket))
    }

    fn shut_down(&self, receives: bool, sends: bool) -> Result<()> {
        stack::with(|stack| {
            let end = stack.end(self.id)?;
            match end.role {
                Role::Alone => return Err(NOT_CONNECTED),
                Role::Listening { .. } => {
                    if receives {
                        stack.stop_listening(self.id);
                    }
                    return Ok(());
                }
                Role::Connection { .. } => (),
            }
            end.receives_no_more |= receives;
            let finishes = sends && !end.sends_no_more;
            end.sends_no_more |= sends;
            end.notice.wake();
            if finishes {
                stack.finish(self.id);
            }
            Ok(())
        })
    }

    fn name(&self) -> Vec<u8> {
        self.with_end_of(|end| Ok(end.local)).unwrap_or(Endpoint::NONE).to_sockaddr()
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        self.with_end_of(|end| match end.role {
            Role::Connection { .. }
                if !matches!(end.last.state, State::SynSent | State::SynReceived | State::Closed) =>
            {
                Ok(end.peer.to_sockaddr())
            }
            _ => Err(NOT_CONNECTED),
        })
    }

    fn send(&self, outgoing: Outgoing) -> Result<usize> {
        if outgoing.flags & net::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let Outgoing { bytes, patience, .. } = outgoing;
        let mut sent = 0;
        while bytes.remaining() > 0 {
            let piece = patience.wait(&self.notice.changed, || self.room()).and_then(|room| room).and_then(|_| {
                let _writing = self.writing.lock();
                // Only more since: nobody else sends.
                let room = self.room().unwrap_or(Ok(0))?;
                let len = bytes.remaining().min(room).min(PIECE);
                frames::require(len as u64)?;
                let piece = bytes.take_all(len)?;
                self.put(&piece)
            });
            match piece {
                Ok(len) => sent += len,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    fn receive(&self, incoming: Incoming) -> Result<Received> {
        let Incoming { bytes, flags, at_least, patience } = incoming;
        if flags & net::MSG_OOB != 0 {
            return Err(Errno::EINVAL);
        }
        if flags & net::MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        let peeks = flags & net::MSG_PEEK != 0;
        let mut received = Received::default();
        let result = loop {
            let reading = self.reading.lock();
            // All at once where nothing is taken.
            let most = if peeks { MAX_PEEK } else { PIECE };
            let mut piece = vec![0; bytes.remaining().min(most).max(1)];
            let found = match self.look(&mut piece) {
                Some(Ok(0)) => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(found)) => found.min(bytes.remaining()),
                None => {
                    drop(reading);
                    if received.len >= at_least {
                        break Ok(());
                    }
                    match patience.wait(&self.notice.changed, || self.has_news().then_some(())) {
                        Ok(()) => continue,
                        Err(error) => break Err(error),
                    }
                }
            };
            if let Err(error) = bytes.put(&piece[..found]) {
                break Err(error);
            }
            received.len += found;
            if peeks {
                break Ok(());
            }
            self.consume(&mut piece[..found]);
            if bytes.remaining() == 0 {
                break Ok(());
            }
        };
        received.message_len = received.len;
        if received.len == 0 {
            result?;
        }
        Ok(received)
    }

    fn poll(&self, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            self.notice.changed.register(table);
        }
        stack::with(|stack| {
            let Ok(end) = stack.end(self.id) else { return abi::POLLERR };
            let mut events = if end.error.is_some() { abi::POLLERR } else { 0 };
            let (readable, writable) = (abi::POLLIN | abi::POLLRDNORM, abi::POLLOUT | abi::POLLWRNORM);
            let handle = match &end.role {
                Role::Alone => return events | writable | abi::POLLHUP,
                Role::Listening { pending, .. } => return if pending.is_empty() { 0 } else { readable },
                Role::Connection { handle, .. } => *handle,
            };
            let state = end.last.state;
            if matches!(state, State::SynSent | State::SynReceived) {
                return events;
            }
            let ended = end.receives_no_more
                || matches!(
                    state,
                    State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
                );
            if ended {
                events |= readable | abi::POLLRDHUP;
            }
            let sends_no_more = end.sends_no_more || state == State::Closed;
            if ended && sends_no_more {
                events |= abi::POLLHUP;
            }
            end.awaits_room = true;
            let socket = stack.socket(handle);
            if socket.recv_queue() > 0 {
                events |= readable;
            }
            // A third has to be free.
            if sends_no_more || socket.send_queue() * 3 <= socket.send_capacity() * 2 {
                events |= writable;
            }
            events
        })
    }

    fn edges(&self) -> u64 {
        self.notice.edges()
    }

    fn unread(&self) -> Result<usize> {
        self.with_end_of(|end| match end.role {
            Role::Listening { .. } => Err(Errno::EINVAL),
            _ => Ok(end.last.unread),
        })
    }

    fn unsent(&self) -> Result<usize> {
        self.with_end_of(|end| Ok(end.last.unsent))
    }

    fn take_error(&self) -> Option<Errno> {
        self.with_end_of(|end| Ok(end.error.take())).unwrap_or(None)
    }

    fn common_option_changed(&self, name: u32, value: u32, linger: [u32; 2]) {
        match name {
            net::SO_REUSEADDR => self.shares_port.store(value != 0, Relaxed),
            net::SO_LINGER => {
                let _ = self.with_end_of(|end| {
                    end.resets_on_close = linger == [1, 0];
                    Ok(())
                });
            }
            _ => (),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: u32) -> Result<()> {
        if (level, name) == (TCP, net::TCP_NODELAY) {
            stack::with(|stack| {
                let end = stack.end(self.id)?;
                end.has_no_delay = value != 0;
                if let Some(handle) = end.handle() {
                    stack.socket(handle).set_nagle_enabled(value == 0);
                    stack.run();
                }
                Ok(())
            })?;
            return self.options.set(TCP, level, name, (value != 0).into());
        }
        self.options.set(TCP, level, name, value)
    }

    fn option(&self, level: u32, name: u32) -> Result<u32> {
        self.options.get(TCP, level, name)
    }
}

impl Tcp {
    /// Whether there are bytes, or will be none.
    fn has_news(&self) -> bool {
        stack::with(|stack| {
            let Ok(end) = stack.end(self.id) else { return true };
            if end.error.is_some() || end.receives_no_more {
                return true;
            }
            let Some(handle) = end.handle() else { return true };
            if matches!(end.last.state, State::SynSent | State::SynReceived) {
                return false;
            }
            let socket = stack.socket(handle);
            socket.recv_queue() > 0 || socket.peek(1).is_err()
        })
    }
}

/// Bytes that MSG_PEEK finds at most: all that a receiver's buffer holds.
const MAX_PEEK: usize = 64 << 10;
