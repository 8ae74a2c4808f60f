//! Device interrupts and inter-processor interrupts: which vector is whose.

use core::sync::atomic::Ordering;

use portcullis::machine::Registers;
use portcullis::x86_64::SavedRegs;

use crate::machine::apic::{CALL, RESCHEDULE, SERIAL_COM1, SERIAL_COM2, SPURIOUS, TIMER, TLB_SHOOTDOWN, eoi};
use crate::machine::cpu;
use crate::sched::{rcu, tick};

/// A device or interprocessor interrupt, with the registers it hit. Interrupts off, context KERNEL, IRQ stack.
pub fn interrupt(vector: u8, regs: &SavedRegs) {
    if vector == SPURIOUS {
        return;
    }
    eoi();
    match vector {
        TIMER => tick::tick(regs.from_user()),
        TLB_SHOOTDOWN => crate::memory::tlb::handle(),
        // The sender set a work flag; being here is enough for it to be seen on the way back.
        RESCHEDULE => rcu::interrupted(),
        CALL => {}
        SERIAL_COM1 => crate::fs::tty::receive_interrupt(),
        SERIAL_COM2 => crate::fs::devices::stream_interrupt(),
        _ => log::warn!("interrupt {vector:#x} from nowhere"),
    }
    if vector >= CALL {
        cpu::this().ipis.fetch_add(1, Ordering::Relaxed);
    }
}
