//! The decision between SYSRET and IRET.

use super::delivery;
use super::doors::{Doors, Paging};
use super::local::CpuLocal;
use super::regs::{UserRegs, flags};
use super::tables::{USER_CS, USER_DS, USER32_CS};
use crate::broken::Broken;
use crate::state::{Crossing, Settled, Syscall, Syscall32};

/// Which way out a door's Rust half chose. It comes from a [`Settled`] that became [`Cleared`](crate::Cleared), so a Rust half that
/// returns one has done the exit work.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct WayOut(u8);

/// The way out of a 64-bit system call: the door's end chooses. Made from a [`WayOut`].
pub(super) struct SysretOrIret;

impl From<WayOut> for SysretOrIret {
    #[inline(always)]
    fn from(_: WayOut) -> Self {
        SysretOrIret
    }
}

const IRET: u8 = 0;
const SYSRET: u8 = 1;
const SYSRET32: u8 = 2;
const ERETU: u8 = 3;

impl<K: Doors, C: Crossing> Settled<'_, K, C> {
    /// Out by IRET, which restores all registers.
    #[inline(always)]
    pub fn iret(self) -> WayOut {
        self.leave_by(IRET)
    }

    #[inline(always)]
    fn leave_by(self, way: u8) -> WayOut {
        if K::CHECKS && self.saved() as *const UserRegs as u64 + UserRegs::SIZE as u64 != CpuLocal::thread_stack_top() {
            K::invariant_broken(Broken::SwitchNotAnnounced);
        }
        let way = if delivery::is_on_for::<K>() { ERETU } else { way };
        self.exit_to_user_mode_by(way.into()).suspend();
        WayOut(way)
    }
}

impl<K: Doors> Settled<'_, K, Syscall> {
    /// Out by SYSRET if [`sysret_is_equivalent`], otherwise by IRET. The end of the door looks, with the registers that it has
    /// popped; here only a trace asks.
    #[inline(always)]
    pub fn sysret_or_iret(self) -> WayOut {
        const { assert!(SYSRET == true as u8 && IRET == false as u8) };
        let way = sysret_is_equivalent(self.saved(), K::PAGING).into();
        let _ = self.leave_by(way);
        WayOut(SYSRET)
    }
}

impl<K: Doors> Settled<'_, K, Syscall32> {
    /// Out by SYSRET if [`sysret32_is_equivalent`], otherwise by IRET. For the doors of SYSENTER and 32-bit SYSCALL.
    #[inline(always)]
    pub fn sysret32_or_iret(self, landing_pad: u64) -> WayOut {
        let way = if sysret32_is_equivalent(self.saved(), landing_pad) { SYSRET32 } else { IRET };
        self.leave_by(way)
    }
}

/// Whether SYSRET to 32-bit code and IRET would enter user mode alike, as far as the code at `landing_pad` can tell: it pops ECX,
/// EDX and EBP, and 32-bit code has no R8 to R15. So ECX may be lost, from which SYSRET takes EIP, but a signal handler, or what
/// a tracer or sigreturn has chosen, must continue by IRET. SYSRET to 32-bit code faults at no EIP.
#[inline(always)]
pub const fn sysret32_is_equivalent(regs: &UserRegs, landing_pad: u64) -> bool {
    regs.rip == landing_pad
        && regs.cs == USER32_CS as u64
        && regs.ss == USER_DS as u64
        && regs.rflags & (flags::RF | flags::TF) == 0
}

/// Whether SYSRET and IRET would load the same values into RIP, CS, SS, RFLAGS, RCX and R11 (SDM volume 2, SYSRET; APM volume 3,
/// SYSRET).
///
/// SYSRET takes RIP from RCX, RFLAGS from R11, and its selectors from STAR. On Intel CPUs it faults *in ring 0, on the user's
/// stack* if RCX is not canonical, so it is for addresses in the user's half. It cannot set RF, and with TF the trap would come
/// one instruction late.
#[inline(always)]
pub const fn sysret_is_equivalent(regs: &UserRegs, paging: Paging) -> bool {
    // No `&&`: where nobody asks, nothing is left of this.
    (regs.rcx == regs.rip)
        & (regs.r11 == regs.rflags)
        & (regs.cs == USER_CS as u64)
        & (regs.ss == USER_DS as u64)
        & (regs.rip >> paging.user_address_bits() == 0)
        & (regs.rflags & TRAPS as u64 == 0)
}

/// A comparison, and a jump.
macro_rules! jump {
    ($jump:literal to $target:literal after $($compare:literal)*) => {
        concat!($($compare,)* "\n", $jump, " ", $target, "\n")
    };
}
pub(super) use jump;

/// The same in assembly: goes to `$iret` unless SYSRET is equivalent. RCX and R11 are the user's, `$base` points to `orig_rax`.
/// Changes the flags.
macro_rules! unless_sysret_is_equivalent {
    ($base:literal, $iret:literal) => {
        concat!(
            $crate::x86_64::sysret::jump!("jne" to $iret after "cmp rcx, [" $base " + {rip}]"),
            $crate::x86_64::sysret::jump!("jne" to $iret after "cmp r11, [" $base " + {rflags}]"),
            $crate::x86_64::sysret::jump!("jne" to $iret after "cmp qword ptr [" $base " + {cs}], {user_cs}"),
            $crate::x86_64::sysret::jump!("jne" to $iret after "cmp qword ptr [" $base " + {ss}], {user_ds}"),
            $crate::x86_64::sysret::jump!("ja" to $iret after "cmp dword ptr [" $base " + {rip} + 4], {highest}"),
            $crate::x86_64::sysret::jump!("jnz" to $iret after "test r11d, {traps}"),
        )
    };
}
pub(super) use unless_sysret_is_equivalent;

/// The frame of IRET, seen from `orig_rax`.
pub(super) mod at {
    use super::UserRegs;
    use core::mem::offset_of;

    const ORIG_RAX: usize = offset_of!(UserRegs, orig_rax);
    pub const RIP: usize = offset_of!(UserRegs, rip) - ORIG_RAX;
    pub const CS: usize = offset_of!(UserRegs, cs) - ORIG_RAX;
    pub const RFLAGS: usize = offset_of!(UserRegs, rflags) - ORIG_RAX;
    pub const RSP: usize = offset_of!(UserRegs, rsp) - ORIG_RAX;
    pub const SS: usize = offset_of!(UserRegs, ss) - ORIG_RAX;
}

/// The upper half of the highest user address.
pub(super) const fn highest(paging: Paging) -> u32 {
    (1 << (paging.user_address_bits() - u32::BITS)) - 1
}

/// What SYSRET does not restore in time.
pub(super) const TRAPS: u32 = (flags::RF | flags::TF) as u32;

#[cfg(test)]
#[path = "../../tests/unit/x86_64/sysret.rs"]
mod tests;
