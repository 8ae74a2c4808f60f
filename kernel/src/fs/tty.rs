//! The console: a terminal on COM1, and the controlling terminal of whoever takes it.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::fs::line::{Effect, Line};
use crate::fs::serial::COM1;
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::sched::wait::{WaitQueue, sleep_until_killable};
use crate::signal;
use crate::signal::job::check_terminal;
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::{SIGCONT, SIGHUP};
use crate::task::tree;
use crate::vfs::buffer::Source;

/// `struct winsize`.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct WindowSize {
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) width: u16,
    pub(super) height: u16,
}

pub(super) struct State {
    pub(super) line: Line,
    pub(super) size: WindowSize,
    /// The session whose controlling terminal this is; 0 for none.
    pub(super) session: Pid,
    /// The process group that may read and that signals go to.
    pub(super) foreground: Pid,
    /// The port does not interrupt because nobody reads.
    pub(super) throttled: bool,
}

/// The console. Its lock is taken in the receive interrupt; no other lock is taken while it is held.
pub(super) struct Tty {
    pub(super) state: SpinLock<State>,
    pub(super) readable: WaitQueue,
    pub(super) writable: WaitQueue,
}

pub(super) static TTY: Tty = Tty {
    state: SpinLock::new(State {
        line: Line::new(),
        size: WindowSize { rows: 0, columns: 0, width: 0, height: 0 },
        session: 0,
        foreground: 0,
        throttled: false,
    }),
    readable: WaitQueue::new(),
    writable: WaitQueue::new(),
};

/// Bytes printed in one go, with interrupts off.
pub(super) const OUTPUT_CHUNK: usize = 128;
/// Output of a byte is at most this long (a tab as spaces).
pub(super) const EXPANSION: usize = 8;
/// Bytes moved to a reader in one go.
pub(super) const INPUT_CHUNK: usize = 256;
/// How long to wait for a listener that does not take our output.
const RETRY: u64 = 1_000_000;
/// Unit of `VTIME`.
pub(super) const TENTH: u64 = 100_000_000;

/// Sets the port up. `size`: the terminal's rows and columns, where the host knows them.
pub fn init(size: Option<(u16, u16)>) {
    let mut state = TTY.state.lock();
    if let Some((rows, columns)) = size {
        (state.size.rows, state.size.columns) = (rows, columns);
    }
    COM1.init();
}

/// The host's terminal has another size now. Interrupt context.
pub fn resize(rows: u16, columns: u16) {
    change_size(WindowSize { rows, columns, width: 0, height: 0 });
}

pub(super) fn change_size(size: WindowSize) {
    let mut state = TTY.state.lock();
    let changed = state.size != size;
    state.size = size;
    let foreground = state.foreground;
    drop(state);
    if changed {
        after_input(foreground, 1 << abi::SIGWINCH);
    }
}

/// Lets output through as it is.
pub fn disable_output_processing() {
    TTY.state.lock().line.termios.oflag &= !abi::OPOST;
}

/// Bytes have come in on COM1. Interrupt context.
pub fn receive_interrupt() {
    let mut signals = 0u64;
    let foreground = {
        let mut state = TTY.state.lock();
        let state = &mut *state;
        loop {
            if state.line.is_full() {
                state.throttled = true;
                COM1.listen(false);
                break;
            }
            let Some(byte) = COM1.receive() else { break };
            signals |= state.type_byte(byte);
        }
        state.foreground
    };
    after_input(foreground, signals);
}

impl State {
    /// Handles a typed byte; returns the signals it causes, as a mask.
    pub(super) fn type_byte(&mut self, byte: u8) -> u64 {
        // Echo that nobody takes is dropped: an interrupt cannot wait.
        let mut echo = |byte| {
            COM1.transmit(&[byte]);
        };
        match self.line.input(byte, &mut echo) {
            Effect::None => 0,
            Effect::Signal(signal) => 1 << signal,
        }
    }

    /// Input that is throttled may go on if there is room again.
    pub(super) fn unthrottle(&mut self) {
        if self.throttled && !self.line.is_full() {
            self.throttled = false;
            COM1.listen(true);
        }
    }

    pub(super) fn can_read(&self) -> bool {
        if self.line.termios.has_local(abi::ICANON) { self.line.has_line() } else { self.line.readable() > 0 }
    }
}

/// After the tty's lock is given back: whoever waits is told, signals are sent.
pub(super) fn after_input(foreground: Pid, mut signals: u64) {
    TTY.readable.wake_all();
    TTY.writable.wake_all();
    while signals != 0 {
        let signal = signals.trailing_zeros();
        signals &= signals - 1;
        if foreground != 0 {
            // The group may be gone.
            let _ = signal::send::to_pgrp(foreground, SigInfo::kernel(signal as i32));
        }
    }
}

/// Makes the console the controlling terminal of the session that `leader` leads.
pub fn set_controlling_session(leader: &Process) {
    leader.has_tty.store(true, Relaxed);
    let mut state = TTY.state.lock();
    state.session = leader.session();
    state.foreground = leader.pgrp();
}

/// The session has no controlling terminal any more, if it had this one. Returns the group that was in its foreground:
/// it is to be hung up.
pub fn disassociate(session: Pid) -> Option<Pid> {
    let foreground = {
        let mut state = TTY.state.lock();
        if session == 0 || state.session != session {
            return None;
        }
        state.session = 0;
        core::mem::take(&mut state.foreground)
    };
    forget_terminal(session);
    (foreground != 0).then_some(foreground)
}

/// The processes of a session have no terminal any more.
pub(super) fn forget_terminal(session: Pid) {
    for process in tree::all() {
        if process.session() == session {
            process.has_tty.store(false, Relaxed);
        }
    }
}

/// The session and the foreground group of the console, for `/proc/PID/stat`.
pub fn session_and_foreground() -> (Pid, Pid) {
    let state = TTY.state.lock();
    (state.session, state.foreground)
}

/// Sends bytes to the console without output processing; returns how many it took.
pub fn send_raw(bytes: &[u8]) -> usize {
    let _state = TTY.state.lock();
    COM1.transmit(bytes)
}

/// Copies to a serial port, for a first program whose output goes to a pipe or file. `send` returns how many bytes the port
/// took.
pub fn write_raw(from: &mut Source, send: fn(&[u8]) -> usize) -> Result<()> {
    let mut chunk = [0; OUTPUT_CHUNK];
    while from.remaining() > 0 {
        let len = from.remaining().min(OUTPUT_CHUNK);
        from.take(&mut chunk[..len])?;
        let waited = transmit(&chunk[..len], send)?;
        if waited && current().signal_pending() {
            return Err(Errno::ERESTARTSYS);
        }
    }
    Ok(())
}

/// Sends all bytes; waits while the host does not take them. Whether it waited.
///
/// A signal must not end the wait: the write counts these bytes as written. Only a thread that is being killed leaves.
pub(super) fn transmit(bytes: &[u8], send: fn(&[u8]) -> usize) -> Result<bool> {
    let mut sent = 0;
    let mut waited = false;
    loop {
        sent += send(&bytes[sent..]);
        if sent == bytes.len() {
            return Ok(waited);
        }
        waited = true;
        sleep_until_killable(time::now() + RETRY)?;
    }
}

/// The caller's relation to the terminal.
pub(super) fn is_controlling() -> bool {
    let process = &current().process;
    process.has_tty.load(Relaxed) && TTY.state.lock().session == process.session()
}

/// Job control: in the background, the caller is stopped or refused.
pub(super) fn check_job(signal: u32) -> Result<()> {
    if !is_controlling() {
        return Ok(());
    }
    let foreground = TTY.state.lock().foreground;
    check_terminal(foreground, signal as i32)
}

/// For `exit` of a session leader: its terminal is given up, and the foreground group is told (SIGHUP, and SIGCONT so that
/// it can).
pub fn session_leader_exits(process: &Process) {
    if let Some(foreground) = disassociate(process.session()) {
        for signo in [SIGHUP, SIGCONT] {
            // The group may be empty.
            let _ = crate::signal::send::to_pgrp(foreground, SigInfo::kernel(signo));
        }
    }
}
