//! The serial ports (16550A): bursts of bytes out, bytes in by interrupt.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::Port;

use crate::machine::time;

/// Registers, as offsets from the base port.
mod register {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    pub const FIFO_CONTROL: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
    pub const SCRATCH: u16 = 7;
}

const RECEIVE_INTERRUPT: u8 = 1 << 0;
/// FIFOs on and cleared; an interrupt when 14 bytes have come in, or fewer and then none for a while (the time of four).
/// A threshold of one byte would make QEMU deliver single bytes, each with an interrupt of its own.
const FIFO_ENABLE: u8 = 0xc7;
const EIGHT_BITS: u8 = 0x03;
const DIVISOR_LATCH: u8 = 0x80;
/// DTR, RTS, and OUT2, which lets the interrupt through.
const MODEM_READY: u8 = 0x0b;
const DATA_READY: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const LINE_IDLE: u8 = 1 << 6;

/// Bytes that the transmitter takes once it is empty.
const FIFO_SIZE: usize = 16;
/// How often to look whether the transmitter is empty before giving up. It is at once, unless whoever listens does not.
const TRANSMIT_POLLS: u32 = 200;

/// How long a full FIFO may take at the end, in nanoseconds: ten times what it takes.
const DRAIN_LIMIT: u64 = 15_000_000;

/// One port. Callers serialise (the tty's or the stream's lock).
pub struct Serial {
    base: u16,
    present: AtomicBool,
}

/// The console.
pub static COM1: Serial = Serial::new(0x3f8);
/// The host's side of standard input: a stream of bytes, and what the host tells of itself.
pub static COM2: Serial = Serial::new(0x2f8);
/// Standard error, where it has a port of its own. Output only.
pub static COM3: Serial = Serial::new(0x3e8);

/// Waits until the ports have sent what they were given. Before the machine is turned off.
pub fn drain() {
    let deadline = time::now() + DRAIN_LIMIT;
    [&COM1, &COM3].into_iter().for_each(|port| port.drain(deadline));
}

impl Serial {
    const fn new(base: u16) -> Self {
        Serial { base, present: AtomicBool::new(false) }
    }

    fn read(&self, register: u16) -> u8 {
        // SAFETY: these ports are a UART's or nobody's; reading has no effect on memory.
        unsafe { Port::new(self.base + register).read() }
    }

    fn write(&self, register: u16, value: u8) {
        // SAFETY: as for `read`.
        unsafe { Port::new(self.base + register).write(value) }
    }

    /// Sets the port up and lets it interrupt when bytes come. False if there is none.
    pub fn init(&self) -> bool {
        let present = self.init_output();
        self.listen(true);
        present
    }

    /// Sets the port up for output alone. False if there is none.
    pub fn init_output(&self) -> bool {
        self.write(register::SCRATCH, 0x5a);
        if self.read(register::SCRATCH) != 0x5a {
            return false;
        }
        self.write(register::INTERRUPT_ENABLE, 0);
        self.write(register::LINE_CONTROL, DIVISOR_LATCH);
        // 115200 baud.
        self.write(register::DATA, 1);
        self.write(register::INTERRUPT_ENABLE, 0);
        self.write(register::LINE_CONTROL, EIGHT_BITS);
        self.write(register::FIFO_CONTROL, FIFO_ENABLE);
        self.write(register::MODEM_CONTROL, MODEM_READY);
        self.present.store(true, Ordering::Release);
        true
    }

    /// Lets bytes that come in interrupt, or not: then they wait in the FIFO, and the sender waits, too.
    pub fn listen(&self, enable: bool) {
        if self.present.load(Ordering::Acquire) {
            self.write(register::INTERRUPT_ENABLE, if enable { RECEIVE_INTERRUPT } else { 0 });
        }
    }

    /// The next byte that came in.
    pub fn receive(&self) -> Option<u8> {
        if !self.present.load(Ordering::Acquire) || self.read(register::LINE_STATUS) & DATA_READY == 0 {
            return None;
        }
        Some(self.read(register::DATA))
    }

    /// Sends `bytes`; returns how many, which is fewer if the other side does not take them.
    pub fn transmit(&self, bytes: &[u8]) -> usize {
        if !self.present.load(Ordering::Acquire) {
            return bytes.len();
        }
        let mut sent = 0;
        for burst in bytes.chunks(FIFO_SIZE) {
            if !self.wait_empty() {
                break;
            }
            // SAFETY: `rep outsb` reads the burst, and the port takes it.
            unsafe {
                core::arch::asm!(
                    "rep outsb",
                    in("dx") self.base + register::DATA,
                    inout("rsi") burst.as_ptr() => _,
                    inout("rcx") burst.len() => _,
                    options(nostack, preserves_flags),
                );
            }
            sent += burst.len();
        }
        sent
    }

    /// Waits until all bytes are on the line: a machine that is turned off before loses them.
    fn drain(&self, deadline: u64) {
        while self.present.load(Ordering::Acquire)
            && self.read(register::LINE_STATUS) & LINE_IDLE == 0
            && time::now() < deadline
        {
            core::hint::spin_loop();
        }
    }

    fn wait_empty(&self) -> bool {
        for _ in 0..TRANSMIT_POLLS {
            if self.read(register::LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }
}
