//! The interrupt descriptor table.

use core::cell::UnsafeCell;

use super::doors::{Doors, Entry, Exception, TABLE};
use super::exception::{STUB_SIZE, first_stub};
use super::tables::KERNEL_CS;
use super::{nmi, paranoid, syscall32};

/// The interrupt descriptor table: one for all CPUs.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Idt(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written at boot, before another CPU runs (`fill`); after that the CPUs read it.
unsafe impl Sync for Idt {}

impl Idt {
    /// No gate is present.
    pub const fn new() -> Self {
        Idt(UnsafeCell::new([[0; 2]; 256]))
    }

    pub(super) fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Fills in the doors of `K`.
    ///
    /// # Safety
    /// Once, at boot, while no other CPU uses it.
    pub(super) unsafe fn fill<K: Doors>(&self) {
        for door in TABLE {
            let Some((first, last)) = door.vectors else {
                continue;
            };
            for vector in first..=last {
                let address = match door.entry {
                    Entry::Int80 if !K::IA32_EMULATION => continue,
                    Entry::Int80 => syscall32::int80_entry::<K> as *const () as u64,
                    Entry::Debug => paranoid::ist_entry::<K, { Exception::DB }> as *const () as u64,
                    Entry::MachineCheck => paranoid::ist_entry::<K, { Exception::MC }> as *const () as u64,
                    Entry::DoubleFault => paranoid::double_fault::<K> as *const () as u64,
                    Entry::Nmi => nmi::nmi_entry::<K> as *const () as u64,
                    Entry::Stub => first_stub::<K>() + vector as u64 * STUB_SIZE as u64,
                    // An MSR points to them.
                    Entry::Syscall | Entry::Syscall32 | Entry::Sysenter | Entry::Fred => continue,
                };
                // SAFETY: the caller's.
                unsafe { (*self.0.get())[vector as usize] = gate(address, door.ist, door.by_user) };
            }
        }
    }
}

/// An interrupt gate, which turns interrupts off (SDM volume 3, figure 6-8).
const fn gate(address: u64, ist: u8, user: bool) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
    let dpl = if user { 3 << 45 } else { 0 };
    let low = address & 0xffff
        | (KERNEL_CS as u64) << 16
        | (ist as u64) << 32
        | PRESENT_INTERRUPT_GATE
        | dpl
        | (address >> 16 & 0xffff) << 48;
    [low, address >> 32]
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/idt.rs"]
mod tests;
