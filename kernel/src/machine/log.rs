//! The kernel's log: port 0xE9 (QEMU's isa-debugcon), never the console.

use core::fmt::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

use crate::machine::sync::SpinLock;
use crate::machine::time;

const PORT: u16 = 0xe9;

/// The port, unlocked: for the panic path and `shutdown`; everything else goes through `log`'s macros.
pub struct DebugPort;

impl Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the debug port takes bytes; on a machine without it nobody listens.
        unsafe {
            core::arch::asm!(
                "rep outsb",
                in("dx") PORT, inout("rsi") text.as_ptr() => _, inout("rcx") text.len() => _,
                options(nostack, preserves_flags, readonly)
            );
        }
        Ok(())
    }
}

struct Logger(SpinLock<DebugPort>);

static LOGGER: Logger = Logger(SpinLock::new(DebugPort));

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let now = time::now() / 1000;
        let target = record.target();
        let module = target.strip_prefix("portcullis_kernel::").unwrap_or(target);
        let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
        let mut port = self.0.lock();
        // The port takes everything.
        let _ = writeln!(port, "[{seconds:3}.{micros:06}] {:5} {module}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Whether a CPU is in the middle of a line.
pub fn is_busy() -> bool {
    LOGGER.0.is_locked()
}

/// Tells the host `line`, whatever the level of the log.
pub fn tell(line: &str) {
    let _ = writeln!(LOGGER.0.lock(), "{line}");
}

/// [`tell`], of what is put together.
pub fn tell_fmt(line: fmt::Arguments) {
    let _ = writeln!(LOGGER.0.lock(), "{line}");
}

/// Takes the port for good: whatever other CPUs have to say from now on, they wait.
pub fn close() -> DebugPort {
    core::mem::forget(LOGGER.0.lock());
    DebugPort
}

/// Starts the log. `level`: 0 errors, 1 warnings (the default), 2 information, 3 debugging, 4 everything.
pub fn init(level: Option<&str>) {
    let filter = match level.and_then(|l| l.parse::<u8>().ok()).unwrap_or(1) {
        0 => LevelFilter::Error,
        1 => LevelFilter::Warn,
        2 => LevelFilter::Info,
        3 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // The only logger there is; it cannot have been set before.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(filter);
}
