//! The last instructions before user mode.

use core::arch::naked_asm;

use super::asm::pop_regs;
use super::regs::{UserRegs, flags};
use super::tables::{USER_CS, USER_DS};
use crate::state::Cleared;

/// Which way out a door's Rust half chose. Only [`Cleared`] makes one, so a door cannot return without the exit work.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct WayOut(u8);

const IRET: u8 = 0;
const SYSRET: u8 = 1;

impl WayOut {
    /// Whether it is SYSRET.
    pub const fn is_sysret(self) -> bool {
        self.0 == SYSRET
    }
}

impl Cleared<'_, UserRegs> {
    /// Out by IRET, which restores everything.
    #[inline(always)]
    pub fn iret(self) -> WayOut {
        WayOut(IRET)
    }

    /// Out by SYSRET if that is exactly equivalent, otherwise by IRET.
    ///
    /// `address_bits` is the width of the user's half: 47, or 56 with 5-level paging.
    #[inline(always)]
    pub fn sysret_or_iret(self, address_bits: u32) -> WayOut {
        WayOut(if sysret_is_equivalent(self.saved(), address_bits) {
            SYSRET
        } else {
            IRET
        })
    }
}

/// Whether SYSRET enters user mode with exactly these registers (SDM volume 2, SYSRET; APM volume 3, SYSRET).
///
/// SYSRET takes RIP from RCX and RFLAGS from R11, and its selectors from STAR. On Intel CPUs it faults *in ring 0, on the
/// user's stack* if RCX is not canonical, so only addresses in the user's half go this way. It cannot set RF, and with
/// TF the trap would come one instruction late.
///
/// `address_bits` is the width of the user's half: 47, or 56 with 5-level paging.
#[inline(always)]
pub const fn sysret_is_equivalent(regs: &UserRegs, address_bits: u32) -> bool {
    let registers =
        cfg!(portcullis_ablate = "sysret-rcx-r11") || regs.rcx == regs.rip && regs.r11 == regs.rflags;
    let selectors = cfg!(portcullis_ablate = "sysret-selectors")
        || regs.cs == USER_CS as u64 && regs.ss == USER_DS as u64;
    let canonical = cfg!(portcullis_ablate = "sysret-canonical") || regs.rip >> address_bits == 0;
    let traps = cfg!(portcullis_ablate = "sysret-rf-tf") || regs.rflags & (flags::RF | flags::TF) == 0;
    registers && selectors && canonical && traps
}

/// Enters user mode by the way in AL. Jumped to by the doors.
///
/// Interrupts off, GS the kernel's, RSP at the [`UserRegs`] on top of the thread stack.
///
/// ```text
///   rsp → r15 … rdi, orig_rax    popped
///         rip                    IRET's frame; SYSRET has RIP in RCX and RFLAGS in R11
///         cs
///         rflags
///         rsp
///         ss                     the top of the thread stack
/// ```
#[unsafe(naked)]
pub(super) unsafe extern "C" fn leave() {
    naked_asm!(
        "test al, al",
        "jz {iret}",
        pop_regs!(),
        // From here on the stack is the user's. Nothing is pushed: interrupts are off, and NMI, #MC and #DB have stacks
        // of their own.
        "mov rsp, [rsp + 3 * 8]",
        "swapgs",
        "sysretq",
        iret = sym leave_by_iret,
    )
}

/// Enters user mode by IRET. As [`leave`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn leave_by_iret() {
    naked_asm!(pop_regs!(), "swapgs", "jmp {iret}", iret = sym iret_to_user)
}

/// The IRET that enters user mode: one instruction with an address of its own, because it may fault on what the user
/// put into CS, SS, RIP or RFLAGS. The exception door recognises the address and makes it the task's fault
/// ([`exception`](super::exception)).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn iret_to_user() {
    naked_asm!("iretq")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regs(rip: u64) -> UserRegs {
        let rflags = flags::IF | flags::FIXED;
        UserRegs {
            rip,
            rcx: rip,
            rflags,
            r11: rflags,
            cs: USER_CS as u64,
            ss: USER_DS as u64,
            ..UserRegs::default()
        }
    }

    #[test]
    fn sysret_only_to_canonical_user_addresses() {
        for bits in [47, 56] {
            let end = 1u64 << bits;
            for (rip, equivalent) in [
                (0, true),
                (end - 1, true),
                (end, false),
                (end + 1, false),
                (end.wrapping_neg() - 1, false),
                (end.wrapping_neg(), false),
                (u64::MAX, false),
                (1 << 63, false),
            ] {
                assert_eq!(
                    sysret_is_equivalent(&regs(rip), bits),
                    equivalent,
                    "{rip:#x} with {bits} bits"
                );
            }
        }
    }

    #[test]
    fn sysret_only_if_every_register_agrees() {
        let good = regs(0x40_0000);
        assert!(sysret_is_equivalent(&good, 47));
        assert!(!sysret_is_equivalent(
            &UserRegs {
                rcx: 0x40_0001,
                ..good
            },
            47
        ));
        assert!(!sysret_is_equivalent(
            &UserRegs {
                r11: good.rflags | flags::CF,
                ..good
            },
            47
        ));
        assert!(!sysret_is_equivalent(&UserRegs { cs: 0x23, ..good }, 47));
        assert!(!sysret_is_equivalent(&UserRegs { ss: 0x33, ..good }, 47));
        for bit in [flags::RF, flags::TF] {
            let rflags = good.rflags | bit;
            assert!(
                !sysret_is_equivalent(
                    &UserRegs {
                        rflags,
                        r11: rflags,
                        ..good
                    },
                    47
                ),
                "{bit:#x}"
            );
        }
    }
}
