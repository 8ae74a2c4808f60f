//! What goes between the host and the guest's ports, and the host's terminal.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::termios::Termios;

/// Introduces what is no plain byte on the guest's input port.
const ESCAPE: u8 = 0xff;

/// The end of the input, as the guest's input port has it.
const END_OF_FILE: [u8; 2] = [ESCAPE, 0];

/// Copies `input` to the guest's input port until either ends, escaped.
pub fn send(mut input: impl Read, mut port: impl Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return port.write_all(&END_OF_FILE),
            Ok(length) => port.write_all(&escape(&buffer[..length]))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Input that cannot be read (a directory, say) is input that has ended.
            Err(_) => return port.write_all(&END_OF_FILE),
        }
    }
}

/// Tells the guest the size of this process's terminal, now and whenever it has changed, until `ended` is closed.
pub fn send_sizes(mut port: impl Write, ended: &Receiver<()>) -> io::Result<()> {
    /// How often to look: SIGWINCH comes to a process only whose controlling terminal it is.
    const INTERVAL: Duration = Duration::from_millis(200);
    let mut sent = None;
    loop {
        let size = terminal_size();
        if let Some((rows, columns)) = size.filter(|_| size != sent) {
            port.write_all(&encode_size(rows, columns))?;
            sent = size;
        }
        if ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected) {
            return Ok(());
        }
    }
}

/// Ctrl-A: the next key is for the emulator.
const PREFIX: u8 = 1;

/// Copies the terminal's keys to the guest's terminal until either ends; whether the user left, by Ctrl-A X. Ctrl-A twice is
/// one for the guest.
pub fn send_keys(mut port: impl Write) -> io::Result<bool> {
    let mut keys = [0; 256];
    let mut keyboard = Keyboard::default();
    loop {
        let length = io::stdin().read(&mut keys)?;
        if length == 0 {
            return Ok(false);
        }
        let (bytes, left) = keyboard.press(&keys[..length]);
        port.write_all(&bytes)?;
        if left {
            return Ok(true);
        }
    }
}

/// What the keys come to.
#[derive(Default)]
struct Keyboard {
    prefixed: bool,
}

impl Keyboard {
    /// The bytes for the guest, and whether the user leaves.
    fn press(&mut self, keys: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        for &key in keys {
            match (std::mem::take(&mut self.prefixed), key) {
                (false, PREFIX) => self.prefixed = true,
                (true, b'x' | b'X') => return (bytes, true),
                (true, PREFIX) | (false, _) => bytes.push(key),
                (true, _) => {}
            }
        }
        (bytes, false)
    }
}

/// Gives the terminal's keys to the guest as they are pressed. [`SavedTerminal`] puts it back.
pub fn make_raw() -> io::Result<()> {
    let input = rustix::stdio::stdin();
    let mut modes = rustix::termios::tcgetattr(input)?;
    let output = modes.output_modes;
    modes.make_raw();
    modes.output_modes = output;
    Ok(rustix::termios::tcsetattr(input, rustix::termios::OptionalActions::Drain, &modes)?)
}

/// The rows and columns of the terminal on standard input, if it knows them.
pub fn terminal_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some((size.ws_row, size.ws_col)).filter(|&size| size != (0, 0))
}

/// A size as the guest's input port has it: no input can look so, as [`send`] doubles each [`ESCAPE`].
fn encode_size(rows: u16, columns: u16) -> [u8; 6] {
    let ([a, b], [c, d]) = (rows.to_le_bytes(), columns.to_le_bytes());
    [ESCAPE, 1, a, b, c, d]
}

fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        escaped.push(byte);
        if byte == ESCAPE {
            escaped.push(ESCAPE);
        }
    }
    escaped
}

/// The exit code of the guest's first program: the kernel log's last line, `exit: N`.
pub fn exit_code(log: &str) -> Option<i32> {
    log.lines().next_back()?.strip_prefix("exit: ")?.trim().parse().ok()
}

/// Bytes that one thread collects and another reads.
#[derive(Clone, Default)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// What was collected until now, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts what is written to it into lines, without their ends, for a function that says whether it wants more.
pub struct Lines<F: FnMut(String) -> bool> {
    each: F,
    partial: Vec<u8>,
}

impl<F: FnMut(String) -> bool> Lines<F> {
    /// Gives the lines to `each`.
    pub fn new(each: F) -> Self {
        Lines { each, partial: Vec::new() }
    }

    fn line(&mut self) -> bool {
        let line = std::mem::take(&mut self.partial);
        (self.each)(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }
}

impl<F: FnMut(String) -> bool> Write for Lines<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'\n' if !self.line() => return Err(io::ErrorKind::BrokenPipe.into()),
                b'\n' => {}
                _ => self.partial.push(byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(String) -> bool> Drop for Lines<F> {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.line();
        }
    }
}

/// The state of the terminal on standard input, put back when this is dropped. QEMU does so itself when it ends in an
/// orderly way, but not when it is killed.
pub struct SavedTerminal {
    modes: Option<Termios>,
    flags: Option<OFlags>,
}

impl SavedTerminal {
    /// Remembers the state.
    pub fn save() -> SavedTerminal {
        let input = rustix::stdio::stdin();
        SavedTerminal { modes: rustix::termios::tcgetattr(input).ok(), flags: rustix::fs::fcntl_getfl(input).ok() }
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        let input: BorrowedFd = rustix::stdio::stdin();
        if let Some(modes) = &self.modes {
            let _ = rustix::termios::tcsetattr(input, rustix::termios::OptionalActions::Drain, modes);
        }
        if let Some(flags) = self.flags {
            let _ = rustix::fs::fcntl_setfl(input, flags);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_escaped_and_ends() {
        let mut port = Vec::new();
        send(&b"a\xff\x00b\xff"[..], &mut port).unwrap();
        assert_eq!(port, b"a\xff\xff\x00b\xff\xff\xff\x00");
        port.clear();
        send(io::empty(), &mut port).unwrap();
        assert_eq!(port, b"\xff\x00");
    }

    #[test]
    fn input_cannot_be_taken_for_a_size() {
        let size = encode_size(0x1ff, 80);
        assert_eq!(size, [0xff, 1, 0xff, 1, 80, 0]);
        let mut port = Vec::new();
        send(&size[..], &mut port).unwrap();
        assert!(port.starts_with(&[0xff, 0xff, 1]));
    }

    #[test]
    fn the_key_after_ctrl_a_is_not_the_guests() {
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.press(b"ab\x01"), (b"ab".to_vec(), false));
        assert_eq!(keyboard.press(b"\x01\x01hx"), (b"\x01x".to_vec(), false));
        assert_eq!(keyboard.press(b"c\x01xd"), (b"c".to_vec(), true));
    }

    #[test]
    fn output_is_cut_into_lines() {
        let mut seen = Vec::new();
        let mut lines = Lines::new(|line| {
            seen.push(line);
            true
        });
        for part in ["on", "e\r\n\ntw", "o"] {
            lines.write_all(part.as_bytes()).unwrap();
        }
        drop(lines);
        assert_eq!(seen, ["one", "", "two"]);
    }

    #[test]
    fn exit_code_is_the_last_line_only() {
        assert_eq!(exit_code("boot\nexit: 7\n"), Some(7));
        assert_eq!(exit_code("exit: 137\n"), Some(137));
        assert_eq!(exit_code("exit: 0\npanicked at …\npanic\n"), None);
        assert_eq!(exit_code("exit: x\n"), None);
        assert_eq!(exit_code(""), None);
    }
}
