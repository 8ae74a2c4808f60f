//! What ioctl asks of a terminal, and changes: settings, the foreground group, whose controlling terminal it is, its size.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{general as abi, ioctl};
use zerocopy::IntoBytes;

use crate::errno::{Errno, Result};
use crate::fs::termios::{TERMIOS_SIZE, Termios};
use crate::fs::tty::{Tty, forget_terminal, session_leader_exits};
use crate::memory::user;
use crate::task::pid::numbers::{meant, seen};
use crate::task::{current, tree};

/// Which end of a terminal is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The terminal itself.
    Terminal,
    /// A pseudo-terminal's master, which is nobody's controlling terminal.
    Master,
}

/// `ioctl` on a terminal, or on the other end of a pseudo-terminal.
pub(super) fn control(tty: &Tty, end: End, request: u32, argument: u64) -> Result<usize> {
    let line = || tty.state.lock().line.termios;
    match request {
        ioctl::TCGETS => user::write(argument, &line().as_bytes()[..TERMIOS_SIZE])?,
        ioctl::TCGETS2 => user::write(argument, &line())?,
        ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => set_termios(tty, request, argument)?,
        ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => set_termios(tty, request, argument)?,
        ioctl::TIOCGPGRP | ioctl::TIOCGSID if end == End::Terminal && !tty.is_controlling() => {
            return Err(Errno::ENOTTY);
        }
        ioctl::TIOCGPGRP => user::write(argument, &seen(tty.session_and_foreground().1))?,
        ioctl::TIOCGSID => user::write(argument, &seen(tty.session_and_foreground().0))?,
        ioctl::TIOCSPGRP => set_foreground(tty, argument)?,
        ioctl::TIOCSCTTY => take_control(tty, argument)?,
        ioctl::TIOCNOTTY if end == End::Master => return Err(Errno::ENOTTY),
        ioctl::TIOCNOTTY => give_up(tty)?,
        ioctl::TIOCGWINSZ => {
            let size = tty.state.lock().size;
            user::write(argument, &size)?;
        }
        ioctl::TIOCSWINSZ => set_window_size(tty, argument)?,
        ioctl::FIONREAD => {
            let count = tty.state.lock().line.readable() as u32;
            user::write(argument, &count)?;
        }
        ioctl::TIOCOUTQ | ioctl::TIOCGETD => user::write(argument, &0u32)?,
        ioctl::TCFLSH => flush(tty, argument)?,
        ioctl::TCXONC => control_flow(tty, argument)?,
        ioctl::TIOCSTI => {
            let byte: u8 = user::read(argument)?;
            let (foreground, signals) = {
                let mut state = tty.state.lock();
                let signals = state.type_byte(byte);
                (state.foreground, signals)
            };
            tty.after_input(foreground, signals);
        }
        ioctl::TIOCMGET => {
            let lines = abi::TIOCM_DTR | abi::TIOCM_RTS | abi::TIOCM_CTS | abi::TIOCM_CAR | abi::TIOCM_DSR;
            user::write(argument, &lines)?;
        }
        // Breaks and modem lines lead nowhere; output is drained when a write returns.
        ioctl::TCSBRK | ioctl::TCSBRKP => tty.check_job(abi::SIGTTOU)?,
        ioctl::TIOCEXCL | ioctl::TIOCNXCL | ioctl::TIOCMSET | ioctl::TIOCMBIS | ioctl::TIOCMBIC => (),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn set_termios(tty: &Tty, request: u32, argument: u64) -> Result<()> {
    let mut termios = tty.state.lock().line.termios;
    let with_speeds = matches!(request, ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2);
    let len = if with_speeds { size_of::<Termios>() } else { TERMIOS_SIZE };
    // SAFETY: any bytes are settings, and `len` is at most their size.
    unsafe { user::copy_from_user((&raw mut termios).cast(), argument, len)? };
    tty.check_job(abi::SIGTTOU)?;
    let mut state = tty.state.lock();
    if matches!(request, ioctl::TCSETSF | ioctl::TCSETSF2) {
        state.line.flush_input();
    }
    state.line.set_termios(termios);
    state.unthrottle();
    drop(state);
    tty.after_input(0, 0);
    Ok(())
}

fn set_foreground(tty: &Tty, argument: u64) -> Result<()> {
    tty.check_job(abi::SIGTTOU)?;
    if !tty.is_controlling() {
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
    tty.state.lock().foreground = pgrp;
    Ok(())
}

fn take_control(tty: &Tty, argument: u64) -> Result<()> {
    let process = &current().process;
    if tty.is_controlling() && process.is_session_leader() {
        return Ok(());
    }
    if !process.is_session_leader() || process.terminal.load(Relaxed) != 0 {
        return Err(Errno::EPERM);
    }
    let session = tty.state.lock().session;
    if session != 0 {
        // Taken from another session only on the word of root, who everybody is.
        if argument != 1 {
            return Err(Errno::EPERM);
        }
        forget_terminal(session);
    }
    tty.set_controlling_session(process);
    Ok(())
}

fn give_up(tty: &Tty) -> Result<()> {
    let process = &current().process;
    if !tty.is_controlling() {
        return Err(Errno::ENOTTY);
    }
    if process.is_session_leader() {
        session_leader_exits(process);
    }
    process.terminal.store(0, Relaxed);
    Ok(())
}

fn set_window_size(tty: &Tty, argument: u64) -> Result<()> {
    tty.change_size(user::read(argument)?);
    Ok(())
}

fn flush(tty: &Tty, argument: u64) -> Result<()> {
    tty.check_job(abi::SIGTTOU)?;
    // Output is never queued.
    match argument as u32 {
        abi::TCOFLUSH => Ok(()),
        abi::TCIFLUSH | abi::TCIOFLUSH => {
            let mut state = tty.state.lock();
            state.line.flush_input();
            state.unthrottle();
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn control_flow(tty: &Tty, argument: u64) -> Result<()> {
    tty.check_job(abi::SIGTTOU)?;
    let mut state = tty.state.lock();
    let cc = state.line.termios.cc;
    match argument as u32 {
        abi::TCOOFF => state.line.output_stopped = true,
        abi::TCOON => state.line.output_stopped = false,
        abi::TCIOFF => {
            state.port.transmit(&[cc[abi::VSTOP as usize]]);
        }
        abi::TCION => {
            state.port.transmit(&[cc[abi::VSTART as usize]]);
        }
        _ => return Err(Errno::EINVAL),
    }
    drop(state);
    tty.after_input(0, 0);
    Ok(())
}
