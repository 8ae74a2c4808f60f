//! Interrupts that one CPU sends another.

use crate::machine::cpu::{CpuMask, MAX_CPUS, get, id, online};
use crate::machine::{apic, sync};

/// Makes `cpu` look at its work flags. No need where it is this CPU.
#[inline]
pub fn send_reschedule(cpu: usize) {
    apic::send(get(cpu), apic::RESCHEDULE);
}

/// Makes the CPUs of `mask` (but this one) run `memory::tlb::handle`.
pub fn send_tlb_shootdown(mask: CpuMask) {
    let _irqs = sync::irqs_off();
    let mask = mask & online() & !(1 << id());
    for cpu in (0..MAX_CPUS).filter(|n| mask & 1 << n != 0) {
        apic::send(get(cpu), apic::TLB_SHOOTDOWN);
    }
}

/// Sends `cpu` (or this CPU) a non-maskable interrupt.
pub fn send_nmi(cpu: usize) {
    apic::send_nmi(get(cpu));
}
