//! A task's first way out.

use core::arch::naked_asm;

use super::doors::Doors;
use super::regs::UserRegs;
use super::sysret::WayOut;
use super::way_out::leave;
use crate::state::Leaving;

/// A task's first way out: after fork, or when the first program starts.
///
/// Not called but jumped or returned to, with interrupts off, on the task's own thread stack, and RSP at the
/// [`UserRegs`] on top of it.
///
/// # Safety
/// The scheduler's switch is complete: this CPU's stack and flags are the task's
/// ([`CpuLocal::switch_to`](super::CpuLocal::switch_to)).
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub unsafe extern "C" fn first_way_out<K: Doors>() {
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {first}",
        "add rsp, 8",
        "jmp {leave}",
        first = sym first::<K>,
        leave = sym leave::<K>,
    )
}

/// # Safety
/// Called by [`first_way_out`] only.
unsafe extern "C" fn first<K: Doors>(regs: &mut UserRegs) -> WayOut {
    // SAFETY: a task that never was in user mode goes there now; the caller vouches for the rest.
    let leaving = unsafe { Leaving::assume(regs) };
    leaving
        .exit_to_user_mode::<K>()
        .sysret_or_iret(K::USER_ADDRESS_BITS)
}
