//! Terminals: the console on COM1, and pseudo-terminals. Who is told of what is typed, and whose controlling terminal each is.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general as abi;
use spin::Once;
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
use crate::vfs::inode::device_number;
use crate::vfs::sleep_lock::SleepLock;

/// `struct winsize`.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct WindowSize {
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) width: u16,
    pub(super) height: u16,
}

/// Where what is printed goes, and what is typed comes from.
pub(super) enum Port {
    /// COM1; `throttled`: it does not interrupt because nobody reads.
    Serial { throttled: bool },
    /// The other end of a pseudo-terminal.
    Master(Master),
}

/// What a pseudo-terminal's two ends know of each other.
pub(super) struct Master {
    /// What waits to be read there.
    pub(super) output: VecDeque<u8>,
    /// Open files of this end.
    pub(super) slaves: usize,
    /// This end was open, and is not now.
    pub(super) was_left: bool,
    /// This end may not be opened yet.
    pub(super) is_locked: bool,
}

/// Bytes that may wait at the other end; echo beyond is dropped.
const OUTPUT_CAPACITY: usize = 4096;

impl Master {
    pub(super) fn new() -> Master {
        // A writer may begin while echo leaves no room: it takes as much again at most. Under the lock nothing is allocated.
        let output = VecDeque::with_capacity(2 * OUTPUT_CAPACITY);
        Master { output, slaves: 0, was_left: false, is_locked: true }
    }
}

impl Port {
    /// Sends bytes; returns how many were taken.
    pub(super) fn transmit(&mut self, bytes: &[u8]) -> usize {
        match self {
            Port::Serial { .. } => COM1.transmit(bytes),
            Port::Master(master) => {
                let len = bytes.len().min(2 * OUTPUT_CAPACITY - master.output.len());
                master.output.extend(&bytes[..len]);
                len
            }
        }
    }

    /// Echo that nobody takes is dropped: an interrupt cannot wait.
    fn echo(&mut self, byte: u8) {
        if self.room() > 0 {
            self.transmit(&[byte]);
        }
    }

    /// How many bytes may be printed now, each as long as it can get. What the serial port does not take is waited for later.
    pub(super) fn room(&self) -> usize {
        match self {
            Port::Serial { .. } => OUTPUT_CHUNK,
            Port::Master(master) => OUTPUT_CAPACITY.saturating_sub(master.output.len()) / EXPANSION,
        }
    }
}

pub(super) struct State {
    pub(super) line: Line,
    pub(super) size: WindowSize,
    /// The session whose controlling terminal this is; 0 for none.
    pub(super) session: Pid,
    /// The process group that may read and that signals go to.
    pub(super) foreground: Pid,
    pub(super) port: Port,
    /// The other end is gone: there is no more input, and nobody to print for.
    pub(super) is_hung_up: bool,
}

/// A terminal. The lock of its state is taken in the receive interrupt; no other lock is taken while it is held.
pub(super) struct Tty {
    /// Its device number.
    pub(super) number: u64,
    pub(super) state: SpinLock<State>,
    pub(super) readable: WaitQueue,
    pub(super) writable: WaitQueue,
    /// Woken when there is something for the other end of a pseudo-terminal: output, room for input, the end.
    pub(super) master: WaitQueue,
    /// One writer at a time finds room and fills it.
    pub(super) writer: SleepLock<()>,
}

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

/// The console's device number.
const CONSOLE: u64 = device_number(4, 64);

/// The pseudo-terminals, by device number: a process knows its controlling terminal by that.
static PSEUDO_TERMINALS: SpinLock<BTreeMap<u64, Arc<Tty>>> = SpinLock::new(BTreeMap::new());

/// The console.
pub(super) fn console() -> &'static Arc<Tty> {
    static TTY: Once<Arc<Tty>> = Once::new();
    TTY.call_once(|| Arc::new(Tty::new(CONSOLE, Port::Serial { throttled: false })))
}

/// The terminal with this number.
pub(super) fn numbered(number: u64) -> Option<Arc<Tty>> {
    if number == CONSOLE {
        return Some(console().clone());
    }
    PSEUDO_TERMINALS.lock().get(&number).cloned()
}

/// Makes a pseudo-terminal known, or a known one unknown.
pub(super) fn enter(tty: &Arc<Tty>) {
    PSEUDO_TERMINALS.lock().insert(tty.number, tty.clone());
}

/// See [`enter`].
pub(super) fn leave(tty: &Tty) {
    let left = PSEUDO_TERMINALS.lock().remove(&tty.number);
    drop(left);
}

/// The controlling terminal of a process.
pub(super) fn controlling(process: &Process) -> Option<Arc<Tty>> {
    match process.terminal.load(Relaxed) {
        0 => None,
        number => numbered(number.into()),
    }
}

/// Sets the port up. `size`: the terminal's rows and columns, where the host knows them.
pub fn init(size: Option<(u16, u16)>) {
    let mut state = console().state.lock();
    if let Some((rows, columns)) = size {
        (state.size.rows, state.size.columns) = (rows, columns);
    }
    COM1.init();
}

/// The host's terminal has another size now. Interrupt context.
pub fn resize(rows: u16, columns: u16) {
    console().change_size(WindowSize { rows, columns, width: 0, height: 0 });
}

/// Lets output through as it is.
pub fn disable_output_processing() {
    console().state.lock().line.termios.oflag &= !abi::OPOST;
}

/// Bytes have come in on COM1. Interrupt context.
pub fn receive_interrupt() {
    let mut signals = 0u64;
    let foreground = {
        let mut state = console().state.lock();
        loop {
            if state.line.is_full() {
                state.port = Port::Serial { throttled: true };
                COM1.listen(false);
                break;
            }
            let Some(byte) = COM1.receive() else { break };
            signals |= state.type_byte(byte);
        }
        state.foreground
    };
    console().after_input(foreground, signals);
}

impl State {
    /// Handles a typed byte; returns the signals it causes, as a mask.
    pub(super) fn type_byte(&mut self, byte: u8) -> u64 {
        let State { line, port, .. } = self;
        match line.input(byte, &mut |byte| port.echo(byte)) {
            Effect::None => 0,
            Effect::Signal(signal) => 1 << signal,
        }
    }

    /// Input that is throttled may go on if there is room again.
    pub(super) fn unthrottle(&mut self) {
        if matches!(self.port, Port::Serial { throttled: true }) && !self.line.is_full() {
            self.port = Port::Serial { throttled: false };
            COM1.listen(true);
        }
    }

    pub(super) fn can_read(&self) -> bool {
        self.is_hung_up
            || if self.line.termios.has_local(abi::ICANON) { self.line.has_line() } else { self.line.readable() > 0 }
    }

    /// Somebody may print.
    pub(super) fn can_write(&self) -> bool {
        self.is_hung_up || !self.line.output_stopped && self.port.room() > 0
    }

    /// The other end of a pseudo-terminal.
    pub(super) fn master(&mut self) -> Option<&mut Master> {
        match &mut self.port {
            Port::Serial { .. } => None,
            Port::Master(master) => Some(master),
        }
    }
}

impl Tty {
    pub(super) fn new(number: u64, port: Port) -> Tty {
        let state = State {
            line: Line::new(),
            size: WindowSize::default(),
            session: 0,
            foreground: 0,
            port,
            is_hung_up: false,
        };
        Tty {
            number,
            state: SpinLock::new(state),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            master: WaitQueue::new(),
            writer: SleepLock::new(()),
        }
    }

    pub(super) fn change_size(&self, size: WindowSize) {
        let mut state = self.state.lock();
        let changed = state.size != size;
        state.size = size;
        let foreground = state.foreground;
        drop(state);
        if changed {
            self.after_input(foreground, 1 << abi::SIGWINCH);
        }
    }

    /// After the tty's lock is given back: whoever waits is told, signals are sent.
    pub(super) fn after_input(&self, foreground: Pid, mut signals: u64) {
        self.readable.wake_all();
        self.writable.wake_all();
        self.master.wake_all();
        while signals != 0 {
            let signal = signals.trailing_zeros();
            signals &= signals - 1;
            if foreground != 0 {
                // The group may be gone.
                let _ = signal::send::to_pgrp(foreground, SigInfo::kernel(signal as i32));
            }
        }
    }

    /// Makes it the controlling terminal of the session that `leader` leads.
    pub(super) fn set_controlling_session(&self, leader: &Process) {
        leader.terminal.store(self.number as u32, Relaxed);
        let mut state = self.state.lock();
        state.session = leader.session();
        state.foreground = leader.pgrp();
    }

    /// The session has this controlling terminal no more, if it had. Returns the group that was in its foreground: it is to be
    /// hung up.
    fn disassociate(&self, session: Pid) -> Option<Pid> {
        let foreground = {
            let mut state = self.state.lock();
            if session == 0 || state.session != session {
                return None;
            }
            state.session = 0;
            core::mem::take(&mut state.foreground)
        };
        forget_terminal(session);
        (foreground != 0).then_some(foreground)
    }

    /// The other end of a pseudo-terminal is gone: the session's leader is told, its processes have no terminal any more, and whoever
    /// waits for it waits no longer. The group in its foreground is told when the leader ends.
    pub(super) fn hang_up(&self) {
        let session = {
            let mut state = self.state.lock();
            state.is_hung_up = true;
            state.session
        };
        let foreground = self.disassociate(session);
        if let Some(leader) = tree::find(session).filter(|_| session != 0) {
            leader.hung_up.store(foreground.unwrap_or(0), Relaxed);
            for signo in [SIGHUP, SIGCONT] {
                // It may be ending.
                let _ = signal::send::to_process(&leader, SigInfo::kernel(signo));
            }
        }
        self.after_input(0, 0);
    }

    /// The session and the foreground group.
    pub(super) fn session_and_foreground(&self) -> (Pid, Pid) {
        let state = self.state.lock();
        (state.session, state.foreground)
    }

    /// Whether it is the caller's controlling terminal.
    pub(super) fn is_controlling(&self) -> bool {
        let process = &current().process;
        u64::from(process.terminal.load(Relaxed)) == self.number && self.state.lock().session == process.session()
    }

    /// Job control: in the background, the caller is stopped or refused.
    pub(super) fn check_job(&self, signal: u32) -> Result<()> {
        if !self.is_controlling() {
            return Ok(());
        }
        let foreground = self.state.lock().foreground;
        check_terminal(foreground, signal as i32)
    }
}

/// Makes the console the controlling terminal of the session that `leader` leads.
pub fn give_console_to(leader: &Process) {
    console().set_controlling_session(leader);
}

/// The processes of a session have no terminal any more.
pub(super) fn forget_terminal(session: Pid) {
    for process in tree::all() {
        if process.session() == session {
            process.terminal.store(0, Relaxed);
        }
    }
}

/// The number of a process's controlling terminal and the group in its foreground, for `/proc/PID/stat`.
pub fn shown(process: &Process) -> (u64, Pid) {
    controlling(process).map_or((0, -1), |tty| (tty.number, tty.session_and_foreground().1))
}

/// Sends bytes to the console without output processing; returns how many it took.
pub fn send_raw(bytes: &[u8]) -> usize {
    let _state = console().state.lock();
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

/// For `exit` of a session leader, or where it gives its terminal up: the foreground group is told (SIGHUP, and SIGCONT so that it
/// can). The terminal may have hung up before.
pub fn session_leader_exits(process: &Process) {
    let foreground = match controlling(process) {
        Some(tty) => tty.disassociate(process.session()),
        None => Some(process.hung_up.swap(0, Relaxed)).filter(|&group| group != 0),
    };
    if let Some(foreground) = foreground {
        for signo in [SIGHUP, SIGCONT] {
            // The group may be empty.
            let _ = crate::signal::send::to_pgrp(foreground, SigInfo::kernel(signo));
        }
    }
}
