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

/// Makes a number that was checked to be below `$bound` 0 where the check was only predicted (Linux:
/// `array_index_nospec()`).
macro_rules! nospec {
    ($number:expr, $bound:ident) => {{
        let number: u32 = $number;
        let mask: u32;
        // SAFETY: arithmetic.
        unsafe {
            core::arch::asm!(
                "cmp {number:e}, {bound}",
                "sbb {mask:e}, {mask:e}",
                number = in(reg) number,
                bound = const $bound,
                mask = out(reg) mask,
                options(pure, nomem, nostack),
            );
        }
        number & mask
    }};
}

/// Makes the 64-bit (or x32) system call.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
pub fn dispatch_64(regs: &mut PtRegs, number: i32) {
    const CALLS: u32 = offsets::X64_CALLS as u32;
    if (number as u32) < CALLS {
        let number = nospec!(number as u32, CALLS);
        // SAFETY: the number is in the table.
        regs.ax = unsafe { x64_sys_call(regs, number) } as usize;
        return;
    }
    #[cfg(CONFIG_X86_X32_ABI)]
    {
        const X32_CALLS: u32 = offsets::X32_CALLS as u32;
        let x32 = (number as u32).wrapping_sub(offsets::X32_BIT as u32);
        #[cfg(CONFIG_X86_X32_DISABLED)]
        let enabled = static_branch_unlikely!(x32_enabled_skey);
        #[cfg(not(CONFIG_X86_X32_DISABLED))]
        let enabled = static_branch_likely!(x32_enabled_skey);
        if enabled && x32 < X32_CALLS {
            let number = nospec!(x32, X32_CALLS);
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
    const CALLS: u32 = offsets::IA32_CALLS as u32;
    if (number as u32) < CALLS {
        let number = nospec!(number as u32, CALLS);
        // SAFETY: the number is in the table.
        regs.ax = unsafe { ia32_sys_call(regs, number) } as usize;
        return;
    }
    unknown(regs, number);
}

/// Where this is called the compiler expects to come seldom.
#[cold]
#[inline(always)]
fn seldom() {}

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
