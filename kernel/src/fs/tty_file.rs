//! A terminal as an open file: reading, writing, and what ioctl changes of it ([`tty`](super::tty)).

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::tty::{
    EXPANSION, INPUT_CHUNK, OUTPUT_CHUNK, Port, TENTH, Tty, console, controlling, send_raw, transmit,
};
use crate::fs::tty_control::{End, control};
use crate::machine::time;
use crate::sched::wait::{FOREVER, PollTable};
use crate::task::current;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{ALWAYS_READY, File, FileOps};
use crate::vfs::inode::Inode;

/// Opens the console by one of its names; `may_control`: it may become the caller's controlling terminal ([`open_tty`]).
pub fn open(inode: Arc<dyn Inode>, flags: u32, may_control: bool) -> Result<Arc<File>> {
    let flags_now = if may_control { flags } else { flags | abi::O_NOCTTY };
    Ok(open_tty(inode, flags_now, console()))
}

/// Opens a terminal. It becomes the controlling terminal of a session leader that has none, unless `O_NOCTTY` says no.
pub(super) fn open_tty(inode: Arc<dyn Inode>, flags: u32, tty: &Arc<Tty>) -> Arc<File> {
    let process = &current().process;
    if flags & abi::O_NOCTTY == 0
        && process.is_session_leader()
        && process.terminal.load(Relaxed) == 0
        && tty.state.lock().session == 0
    {
        tty.set_controlling_session(process);
    }
    File::new(inode, Arc::new(TtyOps::new(tty.clone())), flags)
}

/// An open console.
pub fn new_file(inode: Arc<dyn Inode>, flags: u32) -> Arc<File> {
    File::new(inode, Arc::new(TtyOps::new(console().clone())), flags)
}

/// Opens `/dev/tty`: the caller's controlling terminal.
pub fn open_controlling(inode: Arc<dyn Inode>, flags: u32) -> Result<Arc<File>> {
    let tty = controlling(&current().process).ok_or(Errno::ENXIO)?;
    Ok(File::new(inode, Arc::new(TtyOps::new(tty)), flags))
}

/// The operations of an open terminal.
struct TtyOps {
    tty: Arc<Tty>,
}

impl Drop for TtyOps {
    fn drop(&mut self) {
        if let Some(master) = self.tty.state.lock().master() {
            master.slaves -= 1;
            master.was_left = master.slaves == 0;
        }
        self.tty.master.wake_all();
    }
}

impl TtyOps {
    fn new(tty: Arc<Tty>) -> TtyOps {
        if let Some(master) = tty.state.lock().master() {
            master.slaves += 1;
            master.was_left = false;
        }
        TtyOps { tty }
    }

    fn read_into(&self, file: &File, to: &mut Destination) -> Result<()> {
        self.tty.check_job(abi::SIGTTIN)?;
        let termios = self.tty.state.lock().line.termios;
        if self.tty.state.lock().is_hung_up {
            return Ok(());
        }
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
            if self.move_input(to)?.0 > 0 && minimum > 0 && timeout > 0 {
                deadline = time::now() + timeout;
            }
            if to.done() >= wanted || to.remaining() == 0 {
                return Ok(());
            }
            if minimum == 0 && timeout == 0 || self.tty.state.lock().is_hung_up {
                return Ok(());
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let ready = || self.tty.state.lock().can_read().then_some(());
            match self.tty.readable.wait_until_timeout(deadline, ready) {
                Err(Errno::ETIMEDOUT) => return Ok(()),
                other => other?,
            }
            self.tty.check_job(abi::SIGTTIN)?;
        }
    }

    fn read_line(&self, file: &File, to: &mut Destination) -> Result<()> {
        loop {
            if self.tty.state.lock().can_read() {
                loop {
                    let (moved, ended) = self.move_input(to)?;
                    if ended || moved == 0 {
                        return Ok(());
                    }
                    if to.remaining() == 0 {
                        self.tty.state.lock().line.take_end_of_file();
                        return Ok(());
                    }
                }
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.tty.readable.wait_until(|| {
                let state = self.tty.state.lock();
                // Also if another has switched canonical mode off meanwhile.
                (state.can_read() || !state.line.termios.has_local(abi::ICANON)).then_some(())
            })?;
            self.tty.check_job(abi::SIGTTIN)?;
            if !self.tty.state.lock().line.termios.has_local(abi::ICANON) {
                return self.read_into(file, to);
            }
        }
    }

    /// Moves what is there, up to a chunk; returns how much, and whether a line ended.
    fn move_input(&self, to: &mut Destination) -> Result<(usize, bool)> {
        let mut chunk = [0; INPUT_CHUNK];
        let len = to.remaining().min(INPUT_CHUNK);
        let (moved, ended) = {
            let mut state = self.tty.state.lock();
            let taken = state.line.take(&mut chunk[..len]);
            state.unthrottle();
            taken
        };
        self.tty.master.wake_all();
        to.put(&chunk[..moved])?;
        Ok((moved, ended))
    }

    fn write_from(&self, file: &File, from: &mut Source) -> Result<()> {
        if self.tty.state.lock().line.termios.has_local(abi::TOSTOP) {
            self.tty.check_job(abi::SIGTTOU)?;
        }
        let mut chunk = [0; OUTPUT_CHUNK];
        while from.remaining() > 0 {
            if current().signal_pending() {
                return Err(Errno::ERESTARTSYS);
            }
            if !self.tty.state.lock().can_write() {
                if file.is_nonblocking() {
                    return Err(Errno::EAGAIN);
                }
                self.tty.writable.wait_until(|| self.tty.state.lock().can_write().then_some(()))?;
            }
            // Others that print wait until what there is room for is printed.
            let _writer = self.tty.writer.lock();
            let room = {
                let state = self.tty.state.lock();
                if state.is_hung_up {
                    return Err(Errno::EIO);
                }
                state.port.room()
            };
            let len = from.remaining().min(OUTPUT_CHUNK).min(room);
            from.take(&mut chunk[..len])?;
            self.print(&chunk[..len])?;
        }
        Ok(())
    }

    /// Prints a chunk with output processing.
    fn print(&self, chunk: &[u8]) -> Result<()> {
        let mut expanded = [0; OUTPUT_CHUNK * EXPANSION];
        let mut len = 0;
        let unsent = {
            let mut state = self.tty.state.lock();
            for &byte in chunk {
                state.line.output(byte, &mut |byte| {
                    expanded[len] = byte;
                    len += 1;
                });
            }
            let sent = state.port.transmit(&expanded[..len]);
            // There is room for all of it at the other end of a pseudo-terminal.
            matches!(state.port, Port::Serial { .. }).then_some(sent)
        };
        self.tty.master.wake_all();
        match unsent {
            Some(sent) if sent < len => transmit(&expanded[sent..len], send_raw).map(drop),
            _ => Ok(()),
        }
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
            self.tty.readable.register(table);
            self.tty.writable.register(table);
        }
        let state = self.tty.state.lock();
        if state.is_hung_up {
            return ALWAYS_READY | abi::POLLERR | abi::POLLHUP;
        }
        let minimum = match state.line.termios.cc {
            cc if cc[abi::VTIME as usize] == 0 => cc[abi::VMIN as usize].max(1) as usize,
            _ => 1,
        };
        let canonical = state.line.termios.has_local(abi::ICANON);
        let mut events = 0;
        if if canonical { state.line.has_line() } else { state.line.readable() >= minimum } {
            events |= abi::POLLIN | abi::POLLRDNORM;
        }
        if state.can_write() {
            events |= abi::POLLOUT | abi::POLLWRNORM;
        }
        events
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        if self.tty.state.lock().is_hung_up {
            return Err(Errno::EIO);
        }
        control(&self.tty, End::Terminal, request, argument)
    }
}
