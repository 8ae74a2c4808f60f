//! The 64-bit system call, and the tables.

#[cfg(CONFIG_X86_64)]
use portcullis::{Arrived, Syscall};

use crate::offsets;
use crate::regs::PtRegs;
#[cfg(CONFIG_X86_64)]
use crate::{Linux, version};

const ENOSYS: isize = 38;

unsafe extern "C" {
    #[cfg(CONFIG_X86_64)]
    fn x64_sys_call(regs: *mut PtRegs, number: u32) -> isize;
    #[cfg(CONFIG_X86_X32_ABI)]
    fn x32_sys_call(regs: *mut PtRegs, number: u32) -> isize;
    #[cfg(any(CONFIG_IA32_EMULATION, not(CONFIG_X86_64)))]
    fn ia32_sys_call(regs: *mut PtRegs, number: u32) -> isize;
    #[cfg(CONFIG_X86_X32_ABI)]
    static x32_enabled_skey: crate::static_key::StaticKey;
}

/// The number, if it is below `BOUND`; 0 where the CPU goes on as if it were and it is not (Linux: `array_index_nospec()`).
#[inline(always)]
fn below<const BOUND: u32>(number: u32) -> Option<u32> {
    let mask: u32;
    // SAFETY: arithmetic, and a jump. The mask is made of the carry that the comparison leaves.
    unsafe {
        core::arch::asm!(
            "cmp {number:e}, {bound}",
            "jae {above}",
            "sbb {mask:e}, {mask:e}",
            number = in(reg) number,
            bound = const BOUND,
            mask = out(reg) mask,
            above = label { return None },
            options(nomem, nostack),
        );
    }
    Some(number & mask)
}

/// Makes the 64-bit (or x32) system call.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
pub fn dispatch_64(regs: &mut PtRegs, number: i32) {
    if let Some(number) = below::<{ offsets::X64_CALLS as u32 }>(number as u32) {
        // SAFETY: the number is in the table.
        regs.ax = unsafe { x64_sys_call(regs, number) } as usize;
        return;
    }
    #[cfg(CONFIG_X86_X32_ABI)]
    {
        let x32 = (number as u32).wrapping_sub(offsets::X32_BIT as u32);
        #[cfg(CONFIG_X86_X32_DISABLED)]
        let enabled = static_branch_unlikely!(x32_enabled_skey);
        #[cfg(not(CONFIG_X86_X32_DISABLED))]
        let enabled = static_branch_likely!(x32_enabled_skey);
        if enabled && let Some(number) = below::<{ offsets::X32_CALLS as u32 }>(x32) {
            // SAFETY: the number is in the table.
            regs.ax = unsafe { x32_sys_call(regs, number) } as usize;
            return;
        }
    }
    unknown(regs, number);
}

/// Makes the 32-bit system call.
#[cfg(any(CONFIG_IA32_EMULATION, not(CONFIG_X86_64)))]
#[inline(always)]
pub fn dispatch_32(regs: &mut PtRegs, number: i32) {
    if let Some(number) = below::<{ offsets::IA32_CALLS as u32 }>(number as u32) {
        // SAFETY: the number is in the table.
        regs.ax = unsafe { ia32_sys_call(regs, number) } as usize;
        return;
    }
    unknown(regs, number);
}

/// Where this is called the compiler expects to come seldom.
#[cold]
#[inline(always)]
pub fn seldom() {}

/// No such call. -1 is a tracer's or filter's way to say that none is to be made, with a result of its own.
#[inline(always)]
fn unknown(regs: &mut PtRegs, number: i32) {
    seldom();
    if number != -1 {
        regs.ax = -ENOSYS as usize;
    }
}

/// From the door to the door.
///
/// # Safety
/// User mode was just left, interrupts are off, nothing else has been done.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
unsafe fn syscall_64(regs: &mut PtRegs) -> version::SyscallResult {
    // SAFETY: the caller's.
    let arrived = unsafe { Arrived::<Linux, Syscall>::enter_from_user_mode(regs) };
    let settled = arrived.syscall().exit_to_user_mode_prepare();
    let cleared = settled.exit_to_user_mode();
    let result = version::syscall_result(cleared.saved());
    cleared.suspend();
    result
}

#[cfg(CONFIG_X86_64)]
exported! {
    /// SYSCALL from 64-bit code. The second argument of Linux's, the number, is in the registers, too, where tracers change
    /// it.
    do_syscall_64, do_syscall_64_on_moved_stack: syscall_64 -> version::SyscallResult;
}
