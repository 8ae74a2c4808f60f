//! The console: a terminal on COM1, and the controlling terminal of whoever takes it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{general as abi, ioctl};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};
use crate::fs::line::{Effect, Line};
use crate::fs::serial::COM1;
use crate::fs::termios::{TERMIOS_SIZE, Termios};
use crate::machine::sync::SpinLock;
use crate::machine::time;
use crate::memory::user;
use crate::sched::wait::{FOREVER, PollTable, WaitQueue, sleep_until};
use crate::signal;
use crate::signal::job::check_terminal;
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::pid_numbers::{meant, seen};
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::{SIGCONT, SIGHUP};
use crate::task::tree;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::Inode;

/// `struct winsize`.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct WindowSize {
    rows: u16,
    columns: u16,
    width: u16,
    height: u16,
}

struct State {
    line: Line,
    size: WindowSize,
    /// The session whose controlling terminal this is; 0 for none.
    session: Pid,
    /// The process group that may read and that signals go to.
    foreground: Pid,
    /// The port does not interrupt because nobody reads.
    throttled: bool,
}

/// The console. Its lock is taken in the receive interrupt; no other lock is taken while it is held.
struct Tty {
    state: SpinLock<State>,
    readable: WaitQueue,
    writable: WaitQueue,
}

static TTY: Tty = Tty {
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
const OUTPUT_CHUNK: usize = 128;
/// Output of a byte is at most this long (a tab as spaces).
const EXPANSION: usize = 8;
/// Bytes moved to a reader in one go.
const INPUT_CHUNK: usize = 256;
/// How long to wait for a listener that does not take our output.
const RETRY: u64 = 1_000_000;
/// Unit of `VTIME`.
const TENTH: u64 = 100_000_000;

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

fn change_size(size: WindowSize) {
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
    fn type_byte(&mut self, byte: u8) -> u64 {
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
    fn unthrottle(&mut self) {
        if self.throttled && !self.line.is_full() {
            self.throttled = false;
            COM1.listen(true);
        }
    }

    fn can_read(&self) -> bool {
        if self.line.termios.has_local(abi::ICANON) { self.line.has_line() } else { self.line.readable() > 0 }
    }
}

/// After the tty's lock is given back: whoever waits is told, signals are sent.
fn after_input(foreground: Pid, mut signals: u64) {
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
fn forget_terminal(session: Pid) {
    for process in tree::all() {
        if process.session() == session {
            process.has_tty.store(false, Relaxed);
        }
    }
}

/// Opens the console by one of its names; `may_control`: it becomes the controlling terminal of a session leader that
/// has none, unless `O_NOCTTY` says no.
pub fn open(inode: Arc<dyn Inode>, flags: u32, may_control: bool) -> Result<Arc<File>> {
    let process = &current().process;
    if may_control
        && flags & abi::O_NOCTTY == 0
        && process.is_session_leader()
        && !process.has_tty.load(Relaxed)
        && TTY.state.lock().session == 0
    {
        set_controlling_session(process);
    }
    Ok(new_file(inode, flags))
}

/// An open console.
pub fn new_file(inode: Arc<dyn Inode>, flags: u32) -> Arc<File> {
    File::new(inode, Arc::new(TtyOps), flags)
}

/// Opens `/dev/tty`: the caller's controlling terminal.
pub fn open_controlling(inode: Arc<dyn Inode>, flags: u32) -> Result<Arc<File>> {
    if !current().process.has_tty.load(Relaxed) {
        return Err(Errno::ENXIO);
    }
    Ok(new_file(inode, flags))
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
        transmit(&chunk[..len], send)?;
    }
    Ok(())
}

/// Sends bytes; waits while the host does not take them.
fn transmit(bytes: &[u8], send: fn(&[u8]) -> usize) -> Result<()> {
    let mut sent = 0;
    loop {
        sent += send(&bytes[sent..]);
        if sent == bytes.len() {
            return Ok(());
        }
        sleep_until(time::now() + RETRY)?;
    }
}

/// The caller's relation to the terminal.
fn is_controlling() -> bool {
    let process = &current().process;
    process.has_tty.load(Relaxed) && TTY.state.lock().session == process.session()
}

/// Job control: in the background, the caller is stopped or refused.
fn check_job(signal: u32) -> Result<()> {
    if !is_controlling() {
        return Ok(());
    }
    let foreground = TTY.state.lock().foreground;
    check_terminal(foreground, signal as i32)
}

/// The operations of an open console.
struct TtyOps;

impl TtyOps {
    fn read_into(&self, file: &File, to: &mut Destination) -> Result<()> {
        check_job(abi::SIGTTIN)?;
        let termios = TTY.state.lock().line.termios;
        if termios.has_local(abi::ICANON) {
            return self.read_line(file, to);
        }
        let minimum = termios.cc[abi::VMIN as usize] as usize;
        let timeout = termios.cc[abi::VTIME as usize] as u64 * TENTH;
        // With a minimum, time counts between bytes only; the wait for the first is not limited.
        let mut deadline = match (minimum, timeout) {
            (0, _) => time::now() + timeout,
            _ => FOREVER,
        };
        let wanted = minimum.clamp(1, to.remaining());
        loop {
            if Self::move_input(to)?.0 > 0 && minimum > 0 && timeout > 0 {
                deadline = time::now() + timeout;
            }
            if to.done() >= wanted || to.remaining() == 0 {
                return Ok(());
            }
            if minimum == 0 && timeout == 0 {
                return Ok(());
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let ready = || TTY.state.lock().can_read().then_some(());
            match TTY.readable.wait_until_timeout(deadline, ready) {
                Err(Errno::ETIMEDOUT) => return Ok(()),
                other => other?,
            }
            check_job(abi::SIGTTIN)?;
        }
    }

    fn read_line(&self, file: &File, to: &mut Destination) -> Result<()> {
        loop {
            if TTY.state.lock().can_read() {
                loop {
                    let (moved, ended) = Self::move_input(to)?;
                    if ended || moved == 0 {
                        return Ok(());
                    }
                    if to.remaining() == 0 {
                        TTY.state.lock().line.take_end_of_file();
                        return Ok(());
                    }
                }
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            TTY.readable.wait_until(|| {
                let state = TTY.state.lock();
                // Also if another has switched canonical mode off meanwhile.
                (state.can_read() || !state.line.termios.has_local(abi::ICANON)).then_some(())
            })?;
            check_job(abi::SIGTTIN)?;
            if !TTY.state.lock().line.termios.has_local(abi::ICANON) {
                return self.read_into(file, to);
            }
        }
    }

    /// Moves what is there, up to a chunk; returns how much, and whether a line ended.
    fn move_input(to: &mut Destination) -> Result<(usize, bool)> {
        let mut chunk = [0; INPUT_CHUNK];
        let len = to.remaining().min(INPUT_CHUNK);
        let (moved, ended) = {
            let mut state = TTY.state.lock();
            let taken = state.line.take(&mut chunk[..len]);
            state.unthrottle();
            taken
        };
        to.put(&chunk[..moved])?;
        Ok((moved, ended))
    }

    fn write_from(&self, file: &File, from: &mut Source) -> Result<()> {
        if TTY.state.lock().line.termios.has_local(abi::TOSTOP) {
            check_job(abi::SIGTTOU)?;
        }
        let mut chunk = [0; OUTPUT_CHUNK];
        while from.remaining() > 0 {
            if current().signal_pending() {
                return Err(Errno::ERESTARTSYS);
            }
            if TTY.state.lock().line.output_stopped {
                if file.is_nonblocking() {
                    return Err(Errno::EAGAIN);
                }
                TTY.writable.wait_until(|| (!TTY.state.lock().line.output_stopped).then_some(()))?;
            }
            let len = from.remaining().min(OUTPUT_CHUNK);
            from.take(&mut chunk[..len])?;
            Self::print(&chunk[..len])?;
        }
        Ok(())
    }

    /// Prints a chunk with output processing.
    fn print(chunk: &[u8]) -> Result<()> {
        let mut expanded = [0; OUTPUT_CHUNK * EXPANSION];
        let mut len = 0;
        let sent = {
            let mut state = TTY.state.lock();
            for &byte in chunk {
                state.line.output(byte, &mut |byte| {
                    expanded[len] = byte;
                    len += 1;
                });
            }
            COM1.transmit(&expanded[..len])
        };
        if sent < len { transmit(&expanded[sent..len], send_raw) } else { Ok(()) }
    }

    fn set_termios(&self, request: u32, argument: u64) -> Result<()> {
        let mut termios = TTY.state.lock().line.termios;
        let with_speeds = matches!(request, ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2);
        let len = if with_speeds { size_of::<Termios>() } else { TERMIOS_SIZE };
        // SAFETY: any bytes are settings, and `len` is at most their size.
        unsafe { user::copy_from_user((&raw mut termios).cast(), argument, len)? };
        check_job(abi::SIGTTOU)?;
        let mut state = TTY.state.lock();
        if matches!(request, ioctl::TCSETSF | ioctl::TCSETSF2) {
            state.line.flush_input();
        }
        state.line.set_termios(termios);
        state.unthrottle();
        drop(state);
        after_input(0, 0);
        Ok(())
    }

    fn set_foreground(&self, argument: u64) -> Result<()> {
        check_job(abi::SIGTTOU)?;
        if !is_controlling() {
            return Err(Errno::ENOTTY);
        }
        let pgrp: i32 = user::read(argument)?;
        if pgrp < 0 {
            return Err(Errno::EINVAL);
        }
        let pgrp = meant(pgrp);
        let group = tree::group(pgrp);
        let member = group.first().ok_or(Errno::ESRCH)?;
        if member.session() != current().process.session() {
            return Err(Errno::EPERM);
        }
        TTY.state.lock().foreground = pgrp;
        Ok(())
    }

    fn take_control(&self, argument: u64) -> Result<()> {
        let process = &current().process;
        if is_controlling() && process.is_session_leader() {
            return Ok(());
        }
        if !process.is_session_leader() || process.has_tty.load(Relaxed) {
            return Err(Errno::EPERM);
        }
        let session = TTY.state.lock().session;
        if session != 0 {
            // Taken from another session only on the word of root, who everybody is.
            if argument != 1 {
                return Err(Errno::EPERM);
            }
            forget_terminal(session);
        }
        set_controlling_session(process);
        Ok(())
    }

    fn give_up(&self) -> Result<()> {
        let process = &current().process;
        if !is_controlling() {
            return Err(Errno::ENOTTY);
        }
        if process.is_session_leader() {
            session_leader_exits(process);
        }
        process.has_tty.store(false, Relaxed);
        Ok(())
    }

    fn set_window_size(&self, argument: u64) -> Result<()> {
        change_size(user::read(argument)?);
        Ok(())
    }

    fn flush(&self, argument: u64) -> Result<()> {
        check_job(abi::SIGTTOU)?;
        // Output is never queued.
        match argument as u32 {
            abi::TCOFLUSH => Ok(()),
            abi::TCIFLUSH | abi::TCIOFLUSH => {
                let mut state = TTY.state.lock();
                state.line.flush_input();
                state.unthrottle();
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn control_flow(&self, argument: u64) -> Result<()> {
        check_job(abi::SIGTTOU)?;
        let mut state = TTY.state.lock();
        let cc = state.line.termios.cc;
        match argument as u32 {
            abi::TCOOFF => state.line.output_stopped = true,
            abi::TCOON => state.line.output_stopped = false,
            abi::TCIOFF => {
                COM1.transmit(&[cc[abi::VSTOP as usize]]);
            }
            abi::TCION => {
                COM1.transmit(&[cc[abi::VSTART as usize]]);
            }
            _ => return Err(Errno::EINVAL),
        }
        drop(state);
        TTY.writable.wake_all();
        Ok(())
    }
}

impl FileOps for TtyOps {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let result = self.read_into(file, to);
        to.finish(result)
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let result = self.write_from(file, from);
        from.finish(result)
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            TTY.readable.register(table);
            TTY.writable.register(table);
        }
        let state = TTY.state.lock();
        let minimum = match state.line.termios.cc {
            cc if cc[abi::VTIME as usize] == 0 => cc[abi::VMIN as usize].max(1) as usize,
            _ => 1,
        };
        let canonical = state.line.termios.has_local(abi::ICANON);
        let mut events = 0;
        if if canonical { state.line.has_line() } else { state.line.readable() >= minimum } {
            events |= abi::POLLIN | abi::POLLRDNORM;
        }
        if !state.line.output_stopped {
            events |= abi::POLLOUT | abi::POLLWRNORM;
        }
        events
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        let line = || TTY.state.lock().line.termios;
        match request {
            ioctl::TCGETS => user::write(argument, &line().as_bytes()[..TERMIOS_SIZE])?,
            ioctl::TCGETS2 => user::write(argument, &line())?,
            ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => self.set_termios(request, argument)?,
            ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => self.set_termios(request, argument)?,
            ioctl::TIOCGPGRP | ioctl::TIOCGSID if !is_controlling() => return Err(Errno::ENOTTY),
            ioctl::TIOCGPGRP => user::write(argument, &seen(session_and_foreground().1))?,
            ioctl::TIOCGSID => user::write(argument, &seen(session_and_foreground().0))?,
            ioctl::TIOCSPGRP => self.set_foreground(argument)?,
            ioctl::TIOCSCTTY => self.take_control(argument)?,
            ioctl::TIOCNOTTY => self.give_up()?,
            ioctl::TIOCGWINSZ => {
                let size = TTY.state.lock().size;
                user::write(argument, &size)?;
            }
            ioctl::TIOCSWINSZ => self.set_window_size(argument)?,
            ioctl::FIONREAD => {
                let count = TTY.state.lock().line.readable() as u32;
                user::write(argument, &count)?;
            }
            ioctl::TIOCOUTQ | ioctl::TIOCGETD => user::write(argument, &0u32)?,
            ioctl::TCFLSH => self.flush(argument)?,
            ioctl::TCXONC => self.control_flow(argument)?,
            ioctl::TIOCSTI => {
                let byte: u8 = user::read(argument)?;
                let (foreground, signals) = {
                    let mut state = TTY.state.lock();
                    let signals = state.type_byte(byte);
                    (state.foreground, signals)
                };
                after_input(foreground, signals);
            }
            ioctl::TIOCMGET => {
                let lines = abi::TIOCM_DTR | abi::TIOCM_RTS | abi::TIOCM_CTS | abi::TIOCM_CAR | abi::TIOCM_DSR;
                user::write(argument, &lines)?;
            }
            // Breaks and modem lines lead nowhere; output is drained when a write returns.
            ioctl::TCSBRK | ioctl::TCSBRKP => check_job(abi::SIGTTOU)?,
            ioctl::TIOCEXCL | ioctl::TIOCNXCL | ioctl::TIOCMSET | ioctl::TIOCMBIS | ioctl::TIOCMBIC => (),
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
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
