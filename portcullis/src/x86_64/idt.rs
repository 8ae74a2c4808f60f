//! The interrupt descriptor table.

use core::cell::UnsafeCell;

use super::compat::INT80;
use super::doors::{Doors, Exception};
use super::exception::{STUB_SIZE, first_stub};
use super::tables::{Ist, KERNEL_CS};
use super::{compat, nmi, paranoid};

/// The interrupt descriptor table: one for all CPUs.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Idt(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written once, at boot, before another CPU runs; afterwards only the CPUs read it.
unsafe impl Sync for Idt {}

impl Idt {
    /// Nothing present.
    pub const fn new() -> Self {
        Idt(UnsafeCell::new([[0; 2]; 256]))
    }

    pub(super) fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Fills in every door of `K`.
    ///
    /// # Safety
    /// Once, at boot, while no other CPU uses it.
    pub(super) unsafe fn fill<K: Doors>(&self) {
        let table = first_stub::<K>();
        for vector in 0..=255u8 {
            let mut address = table + vector as u64 * STUB_SIZE as u64;
            let mut ist = 0;
            match vector {
                Exception::DB => {
                    address = paranoid::entry::<K, { Exception::DB }> as *const () as u64;
                    ist = Ist::Debug as u8;
                }
                Exception::MC => {
                    address = paranoid::entry::<K, { Exception::MC }> as *const () as u64;
                    ist = Ist::MachineCheck as u8;
                }
                Exception::DF => {
                    address = paranoid::double_fault::<K> as *const () as u64;
                    ist = Ist::DoubleFault as u8;
                }
                Exception::NMI => {
                    address = nmi::entry::<K> as *const () as u64;
                    ist = Ist::Nmi as u8;
                }
                INT80 if K::IA32_EMULATION => address = compat::int80_entry::<K> as *const () as u64,
                _ => {}
            }
            // User mode may use INT3, INTO and INT 0x80; any other INT is a general-protection fault.
            let user =
                matches!(vector, Exception::BP | Exception::OF) || vector == INT80 && K::IA32_EMULATION;
            // SAFETY: the caller's.
            unsafe { (*self.0.get())[vector as usize] = gate(address, ist, user) };
        }
    }
}

impl Default for Idt {
    fn default() -> Self {
        Self::new()
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
