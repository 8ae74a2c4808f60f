//! Two of QEMU's devices: a port that shows what is written to it, and one that ends QEMU.

use core::arch::asm;
use core::fmt::{self, Write};

/// Written to the exit port; QEMU's exit status is twice that and 1.
pub const SUCCESS: u8 = 0x10;
pub const FAILURE: u8 = 0x11;

/// The port whose bytes QEMU shows.
pub struct Debugcon;

impl Debugcon {
    /// Shows a byte.
    pub fn put(byte: u8) {
        // SAFETY: nothing but QEMU's debug console is at this port.
        unsafe { out(0xe9, byte) }
    }
}

impl Write for Debugcon {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(Debugcon::put);
        Ok(())
    }
}

/// Shows a line.
macro_rules! println {
    // Writing to a port does not fail.
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::qemu::Debugcon, $($argument)*);
    }};
}
pub(crate) use println;

/// Writes to a port.
///
/// # Safety
/// The device at the port does nothing that the kernel is not prepared for.
pub unsafe fn out(port: u16, byte: u8) {
    // SAFETY: the caller's.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nostack, preserves_flags)) }
}

/// Ends QEMU.
pub fn power_off(how: u8) -> ! {
    loop {
        // SAFETY: ends QEMU; on a machine without the exit port nothing happens.
        unsafe { out(0xf4, how) }
    }
}
