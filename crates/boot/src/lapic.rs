//! This CPU's local APIC, by its memory window (xAPIC): its timer, the end of an interrupt, interrupts to other CPUs.
//!
//! Registers: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller".

use core::hint::spin_loop;

use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::model_specific::ApicBase;

use crate::memory::DEVICES_BASE;

/// The vector of an interrupt that went away before it was delivered. It is not acknowledged.
pub const SPURIOUS: u8 = 0xff;

/// The window's physical address after a reset.
const WINDOW: u64 = 0xfee0_0000;
/// What `DEVICES_BASE` shows first.
const FOURTH_GIB: u64 = 3 << 30;
const ID: u64 = 0x20;
const TASK_PRIORITY: u64 = 0x80;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS_VECTOR: u64 = 0xf0;
const ENABLE: u32 = 1 << 8;
const COMMAND: u64 = 0x300;
const COMMAND_DESTINATION: u64 = 0x310;
const COMMAND_PENDING: u32 = 1 << 12;
const COMMAND_ASSERT: u32 = 1 << 14;
const COMMAND_OTHERS: u32 = 3 << 18;
const COMMAND_INIT: u32 = 5 << 8;
const COMMAND_STARTUP: u32 = 6 << 8;
const TIMER: u64 = 0x320;
const TIMER_PERIODIC: u32 = 1 << 17;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_DIVIDE: u64 = 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;
const LINT0: u64 = 0x350;
const MASKED: u32 = 1 << 16;

fn register(offset: u64) -> *mut u32 {
    (DEVICES_BASE + (WINDOW - FOURTH_GIB) + offset) as *mut u32
}

fn read(offset: u64) -> u32 {
    // SAFETY: the boot page tables map the window; reading has no side effect.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: u64, value: u32) {
    // SAFETY: the boot page tables map the window; what is written asks for interrupts, or acknowledges them.
    unsafe { register(offset).write_volatile(value) }
}

/// Switches it on, with the timer stopped. Interrupts off.
pub(crate) fn init() {
    let (base, flags) = ApicBase::read();
    assert_eq!(base.start_address().as_u64(), WINDOW, "the local APIC's window is elsewhere");
    // SAFETY: where it is stays as it is.
    unsafe { ApicBase::write(base, flags | x86_64::registers::model_specific::ApicBaseFlags::LAPIC_ENABLE) };
    write(TASK_PRIORITY, 0);
    write(LINT0, MASKED);
    write(TIMER, MASKED);
    write(SPURIOUS_VECTOR, ENABLE | u32::from(SPURIOUS));
}

/// Its number, by which others send it interrupts.
pub fn id() -> u32 {
    read(ID) >> 24
}

/// The interrupt is handled; the next one of the same or a lower priority may come.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Interrupts this CPU each `ticks` of the timer's own clock, which nobody has measured: a nanosecond each in QEMU. 0 stops it.
pub fn start_timer(vector: u8, ticks: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    write(TIMER, TIMER_PERIODIC | u32::from(vector));
    write(TIMER_INITIAL, ticks);
}

/// Sends an interrupt to the CPU whose local APIC has this number.
pub fn send(id: u32, vector: u8) {
    command(id, u32::from(vector));
}

/// Sends all others an INIT: they wait for a start-up.
pub(crate) fn send_init() {
    command(0, COMMAND_INIT | COMMAND_OTHERS);
}

/// Sends all others a start-up IPI: those that wait for it begin in real mode at `address`, the start of a page.
pub(crate) fn send_startup(address: u64) {
    command(0, COMMAND_STARTUP | COMMAND_OTHERS | (address >> 12) as u32);
}

/// Writes the command register, and waits until the command is taken.
fn command(destination: u32, command: u32) {
    without_interrupts(|| {
        write(COMMAND_DESTINATION, destination << 24);
        write(COMMAND, command | COMMAND_ASSERT);
        while read(COMMAND) & COMMAND_PENDING != 0 {
            spin_loop();
        }
    });
}
