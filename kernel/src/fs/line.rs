//! The line discipline: what a terminal does with the bytes that are typed and the bytes that are printed.
//!
//! Pure bookkeeping: no locks, no device, and no allocation but for a new line. Input arrives in interrupt context. Echo and output leave
//! through a closure.

use alloc::boxed::Box;
use alloc::vec;

use linux_raw_sys::general as abi;

use super::termios::Termios;

/// Bytes of input that wait to be read.
const CAPACITY: usize = 4096;

const BELL: u8 = 7;
const TAB_WIDTH: usize = 8;

/// Where echo goes.
pub type Echo<'a> = dyn FnMut(u8) + 'a;

/// What a byte of input caused, beside being stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// A signal for the foreground process group.
    Signal(u32),
}

/// The state of one terminal line.
pub struct Line {
    /// The settings.
    pub termios: Termios,
    buffer: Box<[u8]>,
    /// A bit per byte: it ends a line (or is the end of file, if the byte is NUL).
    ends: [u64; CAPACITY / 64],
    /// Positions count up; a position's byte is at its remainder. `tail..committed` may be read,
    /// `committed..head` is the line that is being edited.
    tail: usize,
    committed: usize,
    head: usize,
    /// Lines in `tail..committed`.
    lines: usize,
    column: usize,
    /// Column where the edited line began.
    start_column: usize,
    literal_next: bool,
    /// Ctrl-S was typed.
    pub output_stopped: bool,
}

impl Line {
    /// A line that nobody has typed on.
    pub fn new() -> Self {
        Line {
            termios: Termios::new(),
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            ends: [0; CAPACITY / 64],
            tail: 0,
            committed: 0,
            head: 0,
            lines: 0,
            column: 0,
            start_column: 0,
            literal_next: false,
            output_stopped: false,
        }
    }

    fn is_canonical(&self) -> bool {
        self.termios.has_local(abi::ICANON)
    }

    fn byte(&self, position: usize) -> u8 {
        self.buffer[position % CAPACITY]
    }

    fn is_end(&self, position: usize) -> bool {
        let index = position % CAPACITY;
        self.ends[index / 64] & (1 << (index % 64)) != 0
    }

    fn set_end(&mut self, position: usize, end: bool) {
        let index = position % CAPACITY;
        let bit = 1 << (index % 64);
        if end {
            self.ends[index / 64] |= bit;
        } else {
            self.ends[index / 64] &= !bit;
        }
    }

    /// No more input can be taken, and a reader would make room. (A line that is too long is not waited for: its end
    /// could never come.)
    pub fn is_full(&self) -> bool {
        self.head - self.tail >= CAPACITY - 1 && (!self.is_canonical() || self.lines > 0)
    }

    /// How many bytes may be typed at once. A line that is too long is taken, and loses its end.
    pub fn room(&self) -> usize {
        if self.is_full() { 0 } else { (CAPACITY - 1).saturating_sub(self.head - self.tail).max(1) }
    }

    /// Bytes that a read may return now (in canonical mode: complete lines).
    pub fn readable(&self) -> usize {
        match self.is_canonical() {
            true if self.lines == 0 => 0,
            _ => self.committed - self.tail,
        }
    }

    /// In canonical mode, a line or an end of file waits.
    pub fn has_line(&self) -> bool {
        self.lines > 0
    }

    /// Changes the settings.
    pub fn set_termios(&mut self, termios: Termios) {
        let changed = (self.termios.lflag ^ termios.lflag) & abi::ICANON != 0;
        self.termios = termios;
        if !self.termios.has_input(abi::IXON) {
            self.output_stopped = false;
        }
        if changed {
            // What was typed before is one line, or just bytes.
            self.committed = self.head;
            self.literal_next = false;
            if self.is_canonical() {
                self.ends = [0; CAPACITY / 64];
                self.lines = 0;
                if self.head != self.tail {
                    self.set_end(self.head - 1, true);
                    self.lines = 1;
                }
            }
        }
    }

    /// Forgets all input.
    pub fn flush_input(&mut self) {
        self.tail = self.head;
        self.committed = self.head;
        self.lines = 0;
        self.literal_next = false;
    }

    /// Takes bytes for a read into `to`. In canonical mode at most one line; returns the number of bytes and whether
    /// the line ended (with an end of file, that byte is not returned).
    pub fn take(&mut self, to: &mut [u8]) -> (usize, bool) {
        let mut count = 0;
        while count < to.len() && self.tail != self.committed {
            let byte = self.byte(self.tail);
            let end = self.is_canonical() && self.is_end(self.tail);
            self.tail += 1;
            if end {
                self.set_end(self.tail - 1, false);
                self.lines -= 1;
                if byte == 0 {
                    return (count, true);
                }
            }
            to[count] = byte;
            count += 1;
            if end {
                return (count, true);
            }
        }
        (count, false)
    }

    /// An end of file directly after what was read belongs to that read: a full buffer followed by Ctrl-D is not an
    /// end of the file.
    pub fn take_end_of_file(&mut self) {
        if self.is_canonical() && self.tail != self.committed && self.byte(self.tail) == 0 && self.is_end(self.tail) {
            self.set_end(self.tail, false);
            self.lines -= 1;
            self.tail += 1;
        }
    }

    /// Handles one byte that was typed.
    pub fn input(&mut self, mut byte: u8, echo: &mut Echo) -> Effect {
        let termios = self.termios;
        if termios.has_input(abi::ISTRIP) {
            byte &= 0x7f;
        }
        if termios.has_input(abi::IUCLC) && termios.has_local(abi::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if core::mem::take(&mut self.literal_next) {
            self.insert(byte, echo);
            return Effect::None;
        }
        if termios.has_input(abi::IXON) {
            if termios.is(byte, abi::VSTART) {
                self.output_stopped = false;
                return Effect::None;
            }
            if termios.is(byte, abi::VSTOP) {
                self.output_stopped = true;
                return Effect::None;
            }
            if termios.has_input(abi::IXANY) {
                self.output_stopped = false;
            }
        }
        if termios.has_local(abi::ISIG) {
            for (which, signal) in [(abi::VINTR, abi::SIGINT), (abi::VQUIT, abi::SIGQUIT), (abi::VSUSP, abi::SIGTSTP)] {
                if termios.is(byte, which) {
                    if !termios.has_local(abi::NOFLSH) {
                        self.flush_input();
                    }
                    self.output_stopped = false;
                    self.echo(byte, echo);
                    return Effect::Signal(signal);
                }
            }
        }
        match byte {
            b'\r' if termios.has_input(abi::IGNCR) => return Effect::None,
            b'\r' if termios.has_input(abi::ICRNL) => byte = b'\n',
            b'\n' if termios.has_input(abi::INLCR) => byte = b'\r',
            _ => (),
        }
        if self.is_canonical() {
            self.edit(byte, echo);
        } else {
            self.insert(byte, echo);
            self.committed = self.head;
        }
        Effect::None
    }

    /// Canonical mode: editing keys and ends of lines.
    fn edit(&mut self, byte: u8, echo: &mut Echo) {
        let termios = self.termios;
        let extended = termios.has_local(abi::IEXTEN);
        if termios.is(byte, abi::VERASE) {
            self.erase_character(echo);
        } else if termios.is(byte, abi::VKILL) {
            self.kill(byte, echo);
        } else if extended && termios.is(byte, abi::VWERASE) {
            self.erase_word(echo);
        } else if extended && termios.is(byte, abi::VLNEXT) {
            self.literal_next = true;
            if termios.has_local(abi::ECHO) && termios.has_local(abi::ECHOCTL) {
                echo(b'^');
                echo(b'\x08');
            }
        } else if extended && termios.has_local(abi::ECHO) && termios.is(byte, abi::VREPRINT) {
            self.echo(byte, echo);
            self.output(b'\n', echo);
            self.start_column = self.column;
            for position in self.committed..self.head {
                self.echo(self.byte(position), echo);
            }
        } else if termios.is(byte, abi::VEOF) {
            self.store(0);
            self.commit();
        } else if byte == b'\n' {
            if termios.has_local(abi::ECHO) || termios.has_local(abi::ECHONL) {
                self.output(b'\n', echo);
            }
            self.store(b'\n');
            self.commit();
        } else if termios.is(byte, abi::VEOL) || extended && termios.is(byte, abi::VEOL2) {
            if termios.has_local(abi::ECHO) {
                self.echo(byte, echo);
            }
            self.store(byte);
            self.commit();
        } else {
            self.insert(byte, echo);
        }
    }

    /// Stores an ordinary byte, and echoes it.
    fn insert(&mut self, byte: u8, echo: &mut Echo) {
        // In canonical mode the last place is for the end of the line.
        if self.head - self.tail >= CAPACITY - 1 {
            if self.termios.has_input(abi::IMAXBEL) {
                echo(BELL);
            }
            return;
        }
        if self.head == self.committed {
            self.start_column = self.column;
        }
        if self.termios.has_local(abi::ECHO) {
            self.echo(byte, echo);
        }
        self.store(byte);
    }

    fn store(&mut self, byte: u8) {
        if self.head - self.tail < CAPACITY {
            self.buffer[self.head % CAPACITY] = byte;
            self.set_end(self.head, false);
            self.head += 1;
        }
    }

    /// The last stored byte ends a line.
    fn commit(&mut self) {
        if self.head != self.committed {
            self.set_end(self.head - 1, true);
            self.committed = self.head;
            self.lines += 1;
        }
    }

    /// How wide `byte` shows in the echo, at `column`.
    fn width(&self, byte: u8, column: usize) -> usize {
        match byte {
            b'\t' => TAB_WIDTH - column % TAB_WIDTH,
            _ if byte.is_ascii_control() => 2 * self.termios.has_local(abi::ECHOCTL) as usize,
            _ if self.is_continuation(byte) => 0,
            _ => 1,
        }
    }

    fn is_continuation(&self, byte: u8) -> bool {
        self.termios.has_input(abi::IUTF8) && byte & 0xc0 == 0x80
    }

    /// Removes the last character of the edited line from the screen and from the buffer.
    fn erase_character(&mut self, echo: &mut Echo) {
        while self.head != self.committed {
            let byte = self.byte(self.head - 1);
            self.head -= 1;
            if self.is_continuation(byte) {
                continue;
            }
            self.erase_echo(byte, echo);
            return;
        }
    }

    fn erase_echo(&mut self, byte: u8, echo: &mut Echo) {
        if !self.termios.has_local(abi::ECHO) {
            return;
        }
        if !self.termios.has_local(abi::ECHOE) {
            let erase = self.termios.cc[abi::VERASE as usize];
            return self.echo(erase, echo);
        }
        // Where the cursor was before this character: what is before it decides how wide a tab is.
        let mut before = self.start_column;
        for position in self.committed..self.head {
            before += self.width(self.byte(position), before);
        }
        for _ in 0..self.width(byte, before) {
            echo(b'\x08');
            if byte != b'\t' {
                echo(b' ');
                echo(b'\x08');
            }
            self.column = self.column.saturating_sub(1);
        }
    }

    fn erase_word(&mut self, echo: &mut Echo) {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let mut seen_word = false;
        while self.head != self.committed {
            let word = is_word(self.byte(self.head - 1));
            if seen_word && !word {
                break;
            }
            seen_word |= word;
            self.erase_character(echo);
        }
    }

    fn kill(&mut self, byte: u8, echo: &mut Echo) {
        let termios = self.termios;
        let wipe = abi::ECHO | abi::ECHOE | abi::ECHOK | abi::ECHOKE;
        if termios.lflag & wipe == wipe {
            while self.head != self.committed {
                self.erase_character(echo);
            }
            return;
        }
        self.head = self.committed;
        if termios.has_local(abi::ECHO) {
            self.echo(byte, echo);
            if termios.has_local(abi::ECHOK) {
                self.output(b'\n', echo);
            }
        }
    }

    /// Echoes a byte that was typed.
    fn echo(&mut self, byte: u8, echo: &mut Echo) {
        if !self.termios.has_local(abi::ECHO) {
            return;
        }
        let control = byte.is_ascii_control() && byte != b'\t' && byte != b'\n';
        if control && self.termios.has_local(abi::ECHOCTL) {
            echo(b'^');
            echo(byte ^ 0x40);
            self.column += 2;
        } else {
            self.output(byte, echo);
        }
    }

    /// Prints a byte: output processing, as set.
    pub fn output(&mut self, byte: u8, emit: &mut Echo) {
        let termios = self.termios;
        if !termios.has_output(abi::OPOST) {
            return emit(byte);
        }
        match byte {
            b'\n' => {
                if termios.has_output(abi::ONLCR) {
                    emit(b'\r');
                }
                if termios.has_output(abi::ONLCR) || termios.has_output(abi::ONLRET) {
                    self.column = 0;
                    self.start_column = 0;
                }
                emit(b'\n');
            }
            b'\r' if termios.has_output(abi::ONOCR) && self.column == 0 => (),
            b'\r' if termios.has_output(abi::OCRNL) => emit(b'\n'),
            b'\r' => {
                self.column = 0;
                self.start_column = 0;
                emit(b'\r');
            }
            b'\t' => {
                let width = TAB_WIDTH - self.column % TAB_WIDTH;
                self.column += width;
                if termios.oflag & abi::TABDLY == abi::TAB3 {
                    (0..width).for_each(|_| emit(b' '));
                } else {
                    emit(b'\t');
                }
            }
            b'\x08' => {
                self.column = self.column.saturating_sub(1);
                emit(byte);
            }
            _ => {
                let byte = if termios.has_output(abi::OLCUC) { byte.to_ascii_uppercase() } else { byte };
                if !byte.is_ascii_control() && !self.is_continuation(byte) {
                    self.column += 1;
                }
                emit(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests;
