//! The console as an open file: reading, writing, and what ioctl changes of the terminal ([`tty`](super::tty)).

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{general as abi, ioctl};
use zerocopy::IntoBytes;

use crate::errno::{Errno, Result};
use crate::fs::serial::COM1;
use crate::fs::termios::{TERMIOS_SIZE, Termios};
use crate::fs::tty::{
    EXPANSION, INPUT_CHUNK, OUTPUT_CHUNK, TENTH, TTY, after_input, change_size, check_job, forget_terminal,
    is_controlling, send_raw, session_and_foreground, session_leader_exits, set_controlling_session, transmit,
};
use crate::machine::time;
use crate::memory::user;
use crate::sched::wait::{FOREVER, PollTable};
use crate::task::pid::numbers::{meant, seen};
use crate::task::{current, tree};
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::Inode;

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
        if sent < len { transmit(&expanded[sent..len], send_raw).map(drop) } else { Ok(()) }
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
