//! The first serial port, as the tutorial has it.

use core::fmt::{Arguments, Write};

use spin::{LazyLock, Mutex};
use uart_16550::SerialPort;
use x86_64::instructions::interrupts::without_interrupts;

static SERIAL: LazyLock<Mutex<SerialPort>> = LazyLock::new(|| {
    // SAFETY: the port of COM1, which nobody else uses.
    let mut port = unsafe { SerialPort::new(0x3f8) };
    port.init();
    Mutex::new(port)
});

#[doc(hidden)]
pub fn print(text: Arguments) {
    // A handler that prints must not find the lock taken.
    without_interrupts(|| SERIAL.lock().write_fmt(text).expect("a serial port takes everything"));
}

#[macro_export]
macro_rules! println {
    ($($arguments:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($arguments)*))) };
}
