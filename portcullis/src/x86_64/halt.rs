//! The idle loop's halt, and what may hit it.
//!
//! STI holds interrupts off until the next instruction is done, here HLT: an interrupt that comes after the idle loop's last look ends
//! the halt. NMIs, machine checks and debug exceptions are not held off. One that hits between the two returns by an IRET, and that
//! protection is gone: the interrupt that was waited for is taken before HLT, which then waits for another one. So all three
//! return behind the HLT ([`paranoid`](super::paranoid)), and the idle loop looks again.

use core::arch::naked_asm;

use super::regs::UserRegs;

/// Turns interrupts on and halts until one comes; one that is pending already, or that comes in between, counts. It may also return
/// without one: the caller looks again at what it waits for.
///
/// Kernel mode, interrupts off; for [`idle`](crate::idle::idle), which gives it to the context tracking.
#[unsafe(naked)]
pub extern "C" fn wait_for_interrupt() {
    naked_asm!("sti", "hlt", "ret")
}

/// The size of STI, and of HLT.
const INSTRUCTION: u64 = 1;

/// What hit the HLT of [`wait_for_interrupt`] goes on behind it.
#[inline(always)]
pub(super) fn skip_halt(regs: &mut UserRegs) {
    let halt = wait_for_interrupt as *const () as u64 + INSTRUCTION;
    if regs.rip == halt {
        regs.rip += INSTRUCTION;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hits_the_halt_goes_on_behind_it() {
        let start = wait_for_interrupt as *const () as u64;
        // SAFETY: the function's code is readable.
        let code = unsafe { *(start as *const [u8; 3]) };
        assert_eq!(code, [0xfb, 0xf4, 0xc3], "STI, HLT, RET");
        for (hit, goes_on) in [(0, 0), (1, 2), (2, 2)] {
            let mut regs = UserRegs {
                rip: start + hit,
                ..UserRegs::default()
            };
            skip_halt(&mut regs);
            assert_eq!(regs.rip, start + goes_on, "hit at {hit}");
        }
    }
}
