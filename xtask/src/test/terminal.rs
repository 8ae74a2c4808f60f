//! A terminal for tests: what a user types, and what a user sees.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;

/// A terminal with a program on it, and what it shows.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    limit: Duration,
}

impl Terminal {
    /// Starts `command` on a new terminal of `size` rows and columns, where nothing is waited for longer than `limit`. Also gives the terminal's other
    /// end, to look at its state.
    pub fn start(command: &mut Command, size: (u16, u16), limit: Duration) -> Result<(Terminal, Reaped, OwnedFd)> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let size = rustix::termios::Winsize { ws_row: size.0, ws_col: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
        let end = || -> Result<Stdio> { Ok(slave.try_clone()?.into()) };
        let child = command.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
        let keyboard = File::from(master);
        let mut display = keyboard.try_clone()?;
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = display.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok((Terminal { keyboard, screen, shown: String::new(), limit }, Reaped(child), slave))
    }

    /// Presses keys.
    pub fn type_in(&mut self, keys: &str) -> Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    /// Waits until `text` is shown after everything that was waited for before.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return Ok(());
            }
            let Ok(bytes) = self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                bail!("the terminal never showed {text:?}, but {:?}", self.shown);
            };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

/// A child that is ended whatever happens.
pub struct Reaped(Child);

impl Reaped {
    /// Waits for its own end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.0.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() > deadline => bail!("it has not ended after {} s", limit.as_secs()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
