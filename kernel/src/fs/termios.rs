//! A terminal's settings, in the layout of `struct termios2`, and what a new terminal has.

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct termios2`. Its first 36 bytes are `struct termios`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Termios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// Line discipline.
    pub line: u8,
    /// Control characters.
    pub cc: [u8; 19],
    /// Input speed in baud.
    pub ispeed: u32,
    /// Output speed in baud.
    pub ospeed: u32,
}

/// Size of `struct termios`.
pub const TERMIOS_SIZE: usize = 36;

const _: () = {
    assert!(size_of::<Termios>() == size_of::<abi::termios2>());
    assert!(TERMIOS_SIZE == size_of::<abi::termios>());
};

const SPEED: u32 = 115_200;

impl Termios {
    /// What a terminal is set to before anybody changes it: Linux's defaults, at 115200 baud.
    pub const fn new() -> Self {
        let mut cc = [0; 19];
        cc[abi::VINTR as usize] = control(b'C');
        cc[abi::VQUIT as usize] = control(b'\\');
        cc[abi::VERASE as usize] = 0x7f;
        cc[abi::VKILL as usize] = control(b'U');
        cc[abi::VEOF as usize] = control(b'D');
        cc[abi::VMIN as usize] = 1;
        cc[abi::VSTART as usize] = control(b'Q');
        cc[abi::VSTOP as usize] = control(b'S');
        cc[abi::VSUSP as usize] = control(b'Z');
        cc[abi::VREPRINT as usize] = control(b'R');
        cc[abi::VDISCARD as usize] = control(b'O');
        cc[abi::VWERASE as usize] = control(b'W');
        cc[abi::VLNEXT as usize] = control(b'V');
        Termios {
            iflag: abi::ICRNL | abi::IXON,
            oflag: abi::OPOST | abi::ONLCR,
            cflag: abi::B115200 | abi::CS8 | abi::CREAD | abi::HUPCL | abi::CLOCAL,
            lflag: abi::ISIG
                | abi::ICANON
                | abi::ECHO
                | abi::ECHOE
                | abi::ECHOK
                | abi::ECHOCTL
                | abi::ECHOKE
                | abi::IEXTEN,
            line: 0,
            cc,
            ispeed: SPEED,
            ospeed: SPEED,
        }
    }

    /// An input mode is on.
    pub fn has_input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }

    /// An output mode is on.
    pub fn has_output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }

    /// A local mode is on.
    pub fn has_local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    /// `byte` is the control character `which`, and that one is not disabled.
    pub fn is(&self, byte: u8, which: u32) -> bool {
        byte != 0 && self.cc[which as usize] == byte
    }
}

const fn control(letter: u8) -> u8 {
    letter & 0x1f
}

#[cfg(test)]
mod tests;
