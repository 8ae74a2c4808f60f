//! The first serial port, as a console for all CPUs.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};
use x86_64::instructions::interrupts::without_interrupts;

/// COM1.
const PORT: u16 = 0x3f8;

struct Console {
    taken: AtomicBool,
    port: UnsafeCell<Port>,
}

/// The port, or nothing on a machine without one.
struct Port(Option<Uart16550<PioBackend>>);

// SAFETY: who has `taken` has the port.
unsafe impl Sync for Console {}

static CONSOLE: Console = Console { taken: AtomicBool::new(false), port: UnsafeCell::new(Port(None)) };

impl Port {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(port) = &mut self.0 {
            port.send_bytes_exact(bytes);
        }
    }
}

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

/// With the port, which no other CPU has meanwhile, and interrupts off.
fn with<T>(f: impl FnOnce(&mut Port) -> T) -> T {
    without_interrupts(|| {
        while CONSOLE.taken.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        // SAFETY: this CPU has the lock, and no interrupt comes.
        let value = f(unsafe { &mut *CONSOLE.port.get() });
        CONSOLE.taken.store(false, Ordering::Release);
        value
    })
}

/// Sets the port up.
pub(crate) fn init() {
    with(|console| {
        // SAFETY: on a PC the first serial port is there, or nothing is; nobody else uses it.
        let mut port = unsafe { Uart16550::new_port(PORT) }.expect("a port's number");
        if port.init(Config::default()).is_ok() {
            console.0 = Some(port);
        }
    });
}

/// Sends bytes as they are, in one piece. Not in handlers of NMIs and of what is like them: they may have hit one who prints.
pub fn write(bytes: &[u8]) {
    with(|port| port.write(bytes));
}

/// For [`print!`](crate::print).
#[doc(hidden)]
pub fn print(text: fmt::Arguments<'_>) {
    // The port takes everything.
    let _ = with(|port| port.write_fmt(text));
}

/// Prints to the serial port, in one piece. As [`console::write`](crate::console::write) not in handlers of NMIs.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the serial port.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($format:literal $($argument:tt)*) => { $crate::print!("{}\n", ::core::format_args!($format $($argument)*)) };
}
