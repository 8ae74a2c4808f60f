//! Turning the machine off.

use core::fmt::Write;

use spin::Once;
use x86_64::instructions::{interrupts, port::Port};
use x86_64::registers::control::Cr4;

use super::log;

/// Writes to the log what has been kept until the end.
type Tell = fn(&mut dyn Write);

/// What [`shutdown`] calls before the machine is off.
static LAST_WORDS: Once<Tell> = Once::new();

/// Has `tell` write to the log port before the machine is turned off. At boot, once.
pub fn on_shutdown(tell: Tell) {
    LAST_WORDS.call_once(|| tell);
}

/// What QEMU's isa-debug-exit makes 33 of.
const EXIT_ORDERLY: u32 = 0x10;
/// What QEMU's isa-debug-exit makes 35 of.
const EXIT_PANIC: u32 = 0x11;

/// CR4.FRED.
const CR4_FRED: u64 = 1 << 32;

/// The first program has ended with `exit_code`: says so on the log port and turns the machine off.
pub fn shutdown(exit_code: i32) -> ! {
    interrupts::disable();
    let mut port = log::close();
    if let Some(tell) = LAST_WORDS.get() {
        tell(&mut port);
    }
    let _ = writeln!(port, "exit: {exit_code}");
    power_off(EXIT_ORDERLY)
}

/// The machine cannot run anything, for a reason that the log tells: turns it off, as failed.
pub fn give_up() -> ! {
    interrupts::disable();
    power_off(EXIT_PANIC)
}

/// The end of a panic: the marker line, and the machine off.
pub fn shutdown_after_panic() -> ! {
    let _ = writeln!(log::DebugPort, "panic");
    power_off(EXIT_PANIC)
}

fn power_off(code: u32) -> ! {
    // SAFETY: isa-debug-exit ends QEMU; on a machine without it nobody listens.
    unsafe { Port::<u32>::new(0xf4).write(code) };
    // Without that device: a triple fault, which resets the machine (QEMU with -no-reboot ends).
    let no_vectors = x86_64::structures::DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: nothing runs on this processor after this.
    unsafe {
        // While FRED delivers events, nobody reads the IDT.
        Cr4::write_raw(Cr4::read_raw() & !CR4_FRED);
        x86_64::instructions::tables::lidt(&no_vectors);
        core::arch::asm!("ud2", options(noreturn));
    }
}
