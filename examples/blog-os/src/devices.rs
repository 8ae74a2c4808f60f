//! What is not the gate's, before and after: the two 8259s, the timer, the keyboard, the way to end QEMU.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pic8259::ChainedPics;
use spin::Mutex;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use crate::println;

pub const TIMER: u8 = 32;
pub const KEYBOARD: u8 = 33;

// SAFETY: vectors that the CPU does not use itself.
static PICS: Mutex<ChainedPics> = Mutex::new(unsafe { ChainedPics::new(TIMER, TIMER + 8) });
pub static TICKS: AtomicU32 = AtomicU32::new(0);

/// Lets the timer, with 100 ticks a second, and the keyboard interrupt. There are handlers.
pub fn init() {
    const DIVISOR: u16 = (1_193_182 / 100) as u16;
    // SAFETY: channel 0 of the timer counts, in mode 2, from the divisor; nobody else uses these devices.
    unsafe {
        Port::<u8>::new(0x43).write(0x34);
        DIVISOR.to_le_bytes().into_iter().for_each(|byte| Port::<u8>::new(0x40).write(byte));
        let mut pics = PICS.lock();
        pics.initialize();
        pics.write_masks(0b1111_1100, 0xff);
    }
    interrupts::enable();
}

/// The handler of both: called with interrupts off.
pub fn interrupted(vector: u8) {
    match vector {
        TIMER => _ = TICKS.fetch_add(1, Relaxed),
        // SAFETY: a byte waits in the keyboard's controller.
        KEYBOARD => println!("kernel: scancode {:#x}", unsafe { Port::<u8>::new(0x60).read() }),
        _ => {}
    }
    // SAFETY: this interrupt's end.
    unsafe { PICS.lock().notify_end_of_interrupt(vector) };
}

pub fn wait_for_ticks(number: u32) {
    let end = TICKS.load(Relaxed) + number;
    while TICKS.load(Relaxed) < end {
        hlt();
    }
    println!("kernel: {number} ticks of the timer");
}

/// Ends QEMU with the exit status `2 * code + 1`.
pub fn exit(code: u8) -> ! {
    // SAFETY: the device isa-debug-exit.
    unsafe { Port::<u8>::new(0xf4).write(code) };
    loop {
        interrupts::disable();
        hlt();
    }
}
