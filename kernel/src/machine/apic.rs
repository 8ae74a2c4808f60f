//! The local APIC (timer, interprocessor interrupts) and the I/O APIC (the two serial ports).
//!
//! Registers: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller"; Intel 82093AA data sheet. The
//! local APIC is used through its memory window (xAPIC), which every machine with eight CPUs has, and the I/O APIC's
//! first inputs are the ISA interrupt lines on both machine types (q35's one exception, line 0, is not used).

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::direct_map::{MMIO, phys_to_virt};
use crate::machine::cpu::Cpu;
use crate::machine::{cpu, sync};

/// Vector of COM2 (ISA line 3).
pub const SERIAL_COM2: u8 = 0x23;
/// Vector of COM1 (ISA line 4).
pub const SERIAL_COM1: u8 = 0x24;
/// Vector of the local timer.
pub const TIMER: u8 = 0xec;
/// Vector that asks a CPU to come by its exit work; the interrupt itself is all there is to it.
pub const CALL: u8 = 0xfb;
/// Vector of a TLB shootdown.
pub const TLB_SHOOTDOWN: u8 = 0xfc;
/// Vector of a reschedule request.
pub const RESCHEDULE: u8 = 0xfd;
/// Vector of an interrupt that went away before it was delivered.
pub const SPURIOUS: u8 = 0xff;

const APIC_BASE: u32 = 0x1b;
const APIC_BASE_ENABLE: u64 = 1 << 11;
const APIC_BASE_X2APIC: u64 = 1 << 10;

const LAPIC: u64 = MMIO[1];
const IOAPIC: u64 = MMIO[0];

const TPR: usize = 0x80;
const EOI: usize = 0xb0;
const SVR: usize = 0xf0;
const SVR_ENABLE: u32 = 1 << 8;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_ALL_BUT_SELF: u32 = 3 << 18;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const LVT_MASKED: u32 = 1 << 16;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;

fn lapic(register: usize) -> *mut u32 {
    phys_to_virt(LAPIC).wrapping_add(register).cast()
}

#[inline]
fn read(register: usize) -> u32 {
    // SAFETY: `boot_tables` maps the local APIC; reads of these registers have no side effect.
    unsafe { lapic(register).read_volatile() }
}

#[inline]
fn write(register: usize, value: u32) {
    // SAFETY: `boot_tables` maps the local APIC; what is written raises or acknowledges interrupts, which the kernel handles.
    unsafe { lapic(register).write_volatile(value) }
}

/// Switches this CPU's local APIC on, with the timer stopped. Once per CPU, interrupts off.
pub fn init_cpu() {
    let mut base = Msr::new(APIC_BASE);
    // SAFETY: enabling the local APIC at the address it has changes nothing else.
    unsafe {
        let value = base.read();
        assert!(value & APIC_BASE_X2APIC == 0, "the firmware left the local APIC in x2APIC mode");
        assert_eq!(value & 0x000f_ffff_ffff_f000, LAPIC, "local APIC address");
        base.write(value | APIC_BASE_ENABLE);
    }
    write(TPR, 0);
    write(LVT_LINT0, LVT_MASKED);
    write(LVT_LINT1, DELIVER_NMI);
    write(SVR, SVR_ENABLE | u32::from(SPURIOUS));
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    write(LVT_TIMER, u32::from(TIMER));
    write(TIMER_INITIAL, 0);
}

/// Masks the 8259s and brings the two serial lines to the boot processor. Once, on the boot processor.
pub fn init_lines() {
    // SAFETY: OCW1 of both 8259s; where there are none, nobody listens.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
    for (line, vector) in [(3, SERIAL_COM2), (4, SERIAL_COM1)] {
        // Edge triggered, active high, fixed delivery, not masked.
        ioapic_write(0x11 + 2 * line, cpu::get(0).apic_id() << 24);
        ioapic_write(0x10 + 2 * line, u32::from(vector));
    }
}

fn ioapic_write(register: u32, value: u32) {
    let select = phys_to_virt(IOAPIC).cast::<u32>();
    // SAFETY: `boot_tables` maps the I/O APIC: register select at 0, window at 0x10. Only the boot processor comes here.
    unsafe {
        select.write_volatile(register);
        select.byte_add(0x10).write_volatile(value);
    }
}

/// The interrupt is handled; the next of the same or a lower priority may come.
#[inline]
pub fn eoi() {
    write(EOI, 0);
}

/// Lets the timer interrupt this CPU once, `ticks` of its own rate from now (`calibration`); 0 stops it.
#[inline]
pub fn set_timer(ticks: u32) {
    write(TIMER_INITIAL, ticks);
}

/// What is left of `set_timer`'s ticks.
#[inline]
pub fn timer_left() -> u32 {
    read(TIMER_CURRENT)
}

/// Writes the interrupt command register and waits until it has been taken.
fn command(destination: u32, low: u32) {
    let _irqs = sync::irqs_off();
    write(ICR_HIGH, destination << 24);
    write(ICR_LOW, low | ICR_ASSERT);
    while read(ICR_LOW) & ICR_PENDING != 0 {
        core::hint::spin_loop();
    }
}

/// Sends `cpu` the interrupt `vector`.
pub fn send(cpu: &Cpu, vector: u8) {
    command(cpu.apic_id(), u32::from(vector));
}

/// Sends `cpu` a non-maskable interrupt.
pub fn send_nmi(cpu: &Cpu) {
    command(cpu.apic_id(), DELIVER_NMI);
}

/// Sends all other CPUs a non-maskable interrupt.
pub fn send_nmi_to_others() {
    command(0, DELIVER_NMI | ICR_ALL_BUT_SELF);
}

/// Sends the processor with this identity an INIT.
pub fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT);
}

/// Sends it a start-up IPI: real mode at `address`, a page below 1 MiB.
pub fn send_startup(apic_id: u32, address: u64) {
    command(apic_id, DELIVER_STARTUP | (address >> 12) as u32);
}
