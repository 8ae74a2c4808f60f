use core::mem::offset_of;

use super::*;
use crate::machine::InterruptFlag;
use crate::state::{Event, Leaving};
use crate::x86_64::doors::tests::{Minimal, REPORTED};
use crate::x86_64::local::tests::pretend_to_be_a_cpu;

fn regs(rip: u64) -> UserRegs {
    let rflags = flags::IF | flags::FIXED;
    UserRegs { rip, rcx: rip, rflags, r11: rflags, cs: USER_CS as u64, ss: USER_DS as u64, ..UserRegs::new(0, 0) }
}

/// What the door looks at, for registers in memory.
#[unsafe(naked)]
extern "C" fn the_door_takes_sysret<const FIVE_LEVEL: bool>(regs: &UserRegs) -> bool {
    const fn paging(five_level: bool) -> Paging {
        if five_level { Paging::FiveLevel } else { Paging::FourLevel }
    }
    core::arch::naked_asm!(
        "mov rcx, [rdi + {rcx}]; mov r11, [rdi + {r11}]; lea rdx, [rdi + {orig_rax}]",
        "xor eax, eax",
        unless_sysret_is_equivalent!("rdx", "2f"),
        "inc eax",
        "2: ret",
        rcx = const offset_of!(UserRegs, rcx), r11 = const offset_of!(UserRegs, r11),
        orig_rax = const offset_of!(UserRegs, orig_rax),
        rip = const at::RIP, cs = const at::CS, rflags = const at::RFLAGS, ss = const at::SS,
        user_cs = const USER_CS, user_ds = const USER_DS,
        highest = const highest(paging(FIVE_LEVEL)), traps = const TRAPS,
    )
}

/// Asks the function and the door, which must agree.
fn sysret_is_equivalent(regs: &UserRegs, paging: Paging) -> bool {
    let door = match paging {
        Paging::FourLevel => the_door_takes_sysret::<false>(regs),
        Paging::FiveLevel => the_door_takes_sysret::<true>(regs),
    };
    assert_eq!(door, super::sysret_is_equivalent(regs, paging), "{regs:x?}");
    door
}

#[test]
fn sysret_only_to_canonical_user_addresses() {
    for paging in [Paging::FourLevel, Paging::FiveLevel] {
        let end = 1u64 << paging.user_address_bits();
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
            assert_eq!(sysret_is_equivalent(&regs(rip), paging), equivalent, "{rip:#x} with {paging:?}");
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
        UserRegs { rip: PAD | 1 << 32, ..good },
        UserRegs { cs: USER_CS as u64, ..good },
        UserRegs { cs: 0x7, ..good },
        UserRegs { ss: 0x33, ..good },
        UserRegs { ss: 0x7, ..good },
        UserRegs { rflags: good.rflags | flags::TF, ..good },
        UserRegs { rflags: good.rflags | flags::RF, ..good },
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
    assert!(sysret_is_equivalent(&good, Paging::FourLevel));
    assert!(!sysret_is_equivalent(&UserRegs { rcx: 0x40_0001, ..good }, Paging::FourLevel));
    assert!(!sysret_is_equivalent(&UserRegs { r11: good.rflags | flags::CF, ..good }, Paging::FourLevel));
    assert!(!sysret_is_equivalent(&UserRegs { cs: 0x23, ..good }, Paging::FourLevel));
    assert!(!sysret_is_equivalent(&UserRegs { ss: 0x33, ..good }, Paging::FourLevel));
    for bit in [flags::RF, flags::TF] {
        let rflags = good.rflags | bit;
        assert!(!sysret_is_equivalent(&UserRegs { rflags, r11: rflags, ..good }, Paging::FourLevel), "{bit:#x}");
    }
}

/// Off, which it is not in this process.
struct Off;
// SAFETY: there is no GS base to protect.
unsafe impl InterruptFlag for Off {
    unsafe fn on() {}
    fn off() {}
    fn is_on() -> bool {
        false
    }
}

/// With checks on: each way out, with the registers at the top of the thread stack, and of another one.
#[test]
fn a_switch_that_was_not_announced_is_reported_at_the_next_way_out() {
    let ways: [fn(&mut UserRegs) -> WayOut; 3] = [
        |regs| leaving::<Event>(regs).iret(),
        |regs| leaving::<Syscall>(regs).sysret_or_iret(),
        |regs| leaving::<Syscall32>(regs).sysret32_or_iret(0),
    ];
    for way in ways {
        let mut stacks = [regs(0), regs(0)];
        let [announced, other] = &mut stacks;
        let top = core::ptr::from_mut(announced).wrapping_add(1) as u64;
        for (saved, reported) in [(announced, vec![]), (other, vec![Broken::SwitchNotAnnounced])] {
            pretend_to_be_a_cpu(top);
            let _: WayOut = way(saved);
            assert_eq!(REPORTED.take(), reported);
        }
    }
}

/// On the way out, all exit work done.
fn leaving<C: Crossing>(regs: &mut UserRegs) -> Settled<'_, Minimal<false, Off>, C> {
    // SAFETY: this thread plays a CPU that is about to leave the kernel.
    unsafe { Leaving::assume(regs) }.exit_to_user_mode_prepare()
}
