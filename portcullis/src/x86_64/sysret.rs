//! The decision between SYSRET and IRET.

use super::regs::{UserRegs, flags};
use super::tables::{USER_CS, USER_DS, USER32_CS};
use crate::state::Cleared;

/// Which way out a door's Rust half chose. Only [`Cleared`] makes one, so a door cannot return without the exit work.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct WayOut(u8);

const IRET: u8 = 0;
const SYSRET: u8 = 1;
const SYSRET32: u8 = 2;

impl WayOut {
    /// Whether it is SYSRET, to 64- or 32-bit code.
    pub const fn is_sysret(self) -> bool {
        self.0 != IRET
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

    /// Out by SYSRET to 32-bit code if that is equivalent for the vDSO's landing pad, otherwise by IRET. For the doors of
    /// SYSENTER and of 32-bit SYSCALL.
    #[inline(always)]
    pub fn sysret32_or_iret(self, landing_pad: u64) -> WayOut {
        WayOut(if sysret32_is_equivalent(self.saved(), landing_pad) {
            SYSRET32
        } else {
            IRET
        })
    }
}

/// Whether SYSRET to 32-bit code enters user mode with these registers, as far as the code at `landing_pad` looks at them:
/// it pops ECX, EDX and EBP, and 32-bit code has no R8 to R15.
///
/// So ECX may be lost, as SYSRET takes EIP from it; but nobody else may be the one that goes on: neither a signal handler,
/// nor what a tracer or sigreturn chose. Flags and selectors are as for [`sysret_is_equivalent`]. A canonical EIP is no
/// question: SYSRET to 32-bit code takes 32 bits.
#[inline(always)]
pub const fn sysret32_is_equivalent(regs: &UserRegs, landing_pad: u64) -> bool {
    regs.rip == landing_pad
        && regs.cs == USER32_CS as u64
        && regs.ss == USER_DS as u64
        && regs.rflags & (flags::RF | flags::TF) == 0
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
    regs.rcx == regs.rip
        && regs.r11 == regs.rflags
        && regs.cs == USER_CS as u64
        && regs.ss == USER_DS as u64
        && regs.rip >> address_bits == 0
        && regs.rflags & (flags::RF | flags::TF) == 0
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
    fn sysret_to_32_bit_code_only_at_the_landing_pad_with_its_selectors_and_no_trap() {
        const PAD: u64 = 0xf7fc_8579;
        let good = UserRegs {
            cs: USER32_CS as u64,
            // What the vDSO pops.
            rcx: 1,
            r11: 2,
            ..regs(PAD)
        };
        assert!(sysret32_is_equivalent(&good, PAD));
        for bad in [
            UserRegs { rip: PAD + 1, ..good },
            UserRegs {
                rip: PAD | 1 << 32,
                ..good
            },
            UserRegs {
                cs: USER_CS as u64,
                ..good
            },
            UserRegs { cs: 0x7, ..good },
            UserRegs { ss: 0x33, ..good },
            UserRegs { ss: 0x7, ..good },
            UserRegs {
                rflags: good.rflags | flags::TF,
                ..good
            },
            UserRegs {
                rflags: good.rflags | flags::RF,
                ..good
            },
        ] {
            assert!(!sysret32_is_equivalent(&bad, PAD), "{bad:x?}");
        }
        // Flags that SYSRET does restore.
        let rflags = good.rflags | flags::NT | flags::AC | flags::DF | flags::ID | flags::CF;
        assert!(sysret32_is_equivalent(&UserRegs { rflags, ..good }, PAD));
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
