//! The idle loop's halt, and what may hit it.
//!
//! STI holds interrupts off until the next instruction, here HLT, is done, so an interrupt that comes after the idle loop's last
//! check ends the halt. NMIs, machine checks and debug exceptions are not held off, and the IRET of one that hits between the two
//! ends STI's protection: the awaited interrupt would be taken before HLT, which then waits for another one. So these three
//! return to after the HLT ([`paranoid`](super::paranoid)), and the idle loop checks again.

use core::arch::naked_asm;

use super::regs::SavedRegs;

/// Turns interrupts on and halts until one comes, which may be pending already. May return without one: the caller must check
/// again what it waits for.
///
/// # Safety
/// Kernel mode, interrupts off, called by the idle loop, for [`idle`](crate::idle::idle). Interrupts are on when it returns.
#[unsafe(naked)]
pub unsafe extern "C" fn wait_for_interrupt() {
    naked_asm!("sti", "hlt", "ret")
}

/// The size of STI, and of HLT.
const INSTRUCTION: u64 = 1;

/// What hit the HLT of [`wait_for_interrupt`] continues after it.
#[inline(always)]
pub(super) fn skip_halt(regs: &mut SavedRegs) {
    let halt = wait_for_interrupt as *const () as u64 + INSTRUCTION;
    if regs.rip == halt {
        regs.rip += INSTRUCTION;
    }
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/halt.rs"]
mod tests;
