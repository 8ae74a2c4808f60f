//! Socket pairs that keep messages apart: `SOCK_SEQPACKET` and `SOCK_DGRAM` of `socketpair`.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::{errno, general as abi};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::new_ino;
use crate::sched::wait::{PollTable, WaitQueue};
use crate::vfs::anonymous::AnonymousInode;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};

/// The longest message, and how many bytes may wait in one direction.
const LONGEST: usize = 64 << 10;
const ROOM: usize = 128 << 10;

/// One direction: messages that were sent and not received.
struct Direction {
    state: SpinLock<State>,
    changed: WaitQueue,
}

struct State {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// One of the ends is closed.
    closed: bool,
}

impl Direction {
    fn new() -> Arc<Direction> {
        Arc::new(Direction {
            state: SpinLock::new(State { messages: VecDeque::new(), bytes: 0, closed: false }),
            changed: WaitQueue::new(),
        })
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.changed.wake_all();
    }
}

/// One end.
struct PacketSocket {
    input: Arc<Direction>,
    output: Arc<Direction>,
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        self.input.close();
        self.output.close();
    }
}

impl FileOps for PacketSocket {
    /// One message. What does not fit is lost. No bytes: the other end is closed.
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        let input = &self.input;
        let take = || {
            let mut state = input.state.lock();
            match state.messages.pop_front() {
                Some(message) => {
                    state.bytes -= message.len();
                    Some(message)
                }
                None => state.closed.then(Vec::new),
            }
        };
        let message =
            if file.is_nonblocking() { take().ok_or(Errno::EAGAIN)? } else { input.changed.wait_until(take)? };
        input.changed.wake_all();
        let len = message.len().min(to.remaining());
        to.put(&message[..len])?;
        Ok(len)
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let len = from.remaining();
        if len > LONGEST {
            return Err(Errno(errno::EMSGSIZE as usize));
        }
        let mut message = Some(from.take_all(LONGEST)?);
        let output = &self.output;
        let mut put = || {
            let mut state = output.state.lock();
            if state.closed {
                return Some(Err(Errno::EPIPE));
            }
            if state.bytes + len > ROOM {
                return None;
            }
            state.bytes += len;
            state.messages.extend(message.take());
            Some(Ok(len))
        };
        let result =
            if file.is_nonblocking() { put().ok_or(Errno::EAGAIN)? } else { output.changed.wait_until(put)? };
        if result.is_err() {
            super::pipe::raise_sigpipe();
        }
        output.changed.wake_all();
        result
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            self.input.changed.register(table);
            self.output.changed.register(table);
        }
        let mut events = 0;
        let input = self.input.state.lock();
        if !input.messages.is_empty() || input.closed {
            events |= abi::POLLIN | abi::POLLRDNORM;
        }
        if input.closed {
            events |= abi::POLLHUP | abi::POLLRDHUP;
        }
        drop(input);
        if self.output.state.lock().bytes < ROOM {
            events |= abi::POLLOUT | abi::POLLWRNORM;
        }
        events
    }
}

/// The two ends.
pub fn pair(flags: u32) -> (Arc<File>, Arc<File>) {
    let directions = [Direction::new(), Direction::new()];
    let make = |input: &Arc<Direction>, output: &Arc<Direction>| {
        let ino = new_ino();
        let label = format!("socket:[{ino}]").into_bytes();
        let socket = PacketSocket { input: input.clone(), output: output.clone() };
        let inode = AnonymousInode::new(abi::S_IFSOCK | 0o777, ino, label);
        File::new(inode, Arc::new(socket), abi::O_RDWR | flags & abi::O_NONBLOCK)
    };
    (make(&directions[0], &directions[1]), make(&directions[1], &directions[0]))
}

#[cfg(test)]
mod tests;
