//! 32-bit system calls: INT 0x80, SYSENTER, and SYSCALL from compatibility mode.
#![cfg(any(CONFIG_IA32_EMULATION, not(CONFIG_X86_64)))]

use core::arch::asm;

use portcullis::{Arrived, Syscall32};

use crate::current::task;
use crate::regs::{PtRegs, flags};
use crate::{Linux, offsets, version};

unsafe extern "C" {
    fn __get_user_nocheck_4();
    #[cfg(not(CONFIG_X86_64))]
    fn __get_user_4();
    #[cfg(CONFIG_IA32_EMULATION)]
    fn portcullis_external_int80();
    #[cfg(all(CONFIG_IA32_EMULATION, CONFIG_XEN_PV))]
    fn portcullis_has_apic() -> bool;
}

#[cfg(CONFIG_IA32_EMULATION)]
const ENOSYS: isize = 38;
const EFAULT: isize = 14;

/// Whether interrupt 0x80 came from outside (broken hardware, a hypervisor): then the local APIC is serving it.
#[cfg(CONFIG_IA32_EMULATION)]
#[inline(always)]
fn int80_is_external() -> bool {
    #[cfg(CONFIG_XEN_PV)]
    // SAFETY: asks for a feature.
    if !unsafe { portcullis_has_apic() } {
        return false;
    }
    #[cfg(CONFIG_X86_LOCAL_APIC)]
    return version::apic_isr_of_vector_80() & 1 << (0x80 % 32) != 0;
    #[cfg(not(CONFIG_X86_LOCAL_APIC))]
    false
}

/// INT 0x80 in a 64-bit kernel: the assembly is that of an exception.
///
/// # Safety
/// User mode was just left, interrupts are off, nothing else has been done.
#[cfg(CONFIG_IA32_EMULATION)]
#[inline(always)]
unsafe fn int80(regs: &mut PtRegs) {
    use portcullis::Interrupted;
    use portcullis::machine::Registers;

    if !regs.from_user() {
        // SAFETY: the kernel was hit by what it never does; it stops here.
        unsafe {
            Interrupted::<Linux>::enter_from_kernel(regs).0.suspend();
            portcullis_external_int80();
        }
        return;
    }
    // SAFETY: the caller's.
    let arrived = unsafe { Arrived::<Linux, Syscall32>::enter_from_user_mode(regs) };
    if int80_is_external() {
        // SAFETY: stops the kernel.
        unsafe { portcullis_external_int80() };
    }
    make_call_of_int80(arrived);
}

/// INT 0x80 came from user mode, with nothing done of what a tracer expects of a system call: the number, 32 bits of it, where
/// numbers are, and no result yet.
#[cfg(CONFIG_IA32_EMULATION)]
#[inline(always)]
fn make_call_of_int80(mut arrived: Arrived<'_, Linux, Syscall32>) {
    let regs = arrived.regs();
    regs.orig_ax = regs.ax as u32 as usize;
    regs.ax = -ENOSYS as usize;
    let settled = arrived.syscall_32().exit_to_user_mode_prepare();
    settled.exit_to_user_mode().suspend();
}

/// INT 0x80 by FRED: the event's type says that it is no interrupt.
///
/// # Safety
/// User mode was just left, interrupts are off, nothing else has been done.
#[cfg(all(CONFIG_IA32_EMULATION, CONFIG_X86_FRED))]
#[inline(always)]
unsafe fn int80_by_fred(regs: &mut PtRegs) {
    // SAFETY: the caller's.
    make_call_of_int80(unsafe { Arrived::<Linux, Syscall32>::enter_from_user_mode(regs) });
}

/// INT 0x80 in a 32-bit kernel.
///
/// # Safety
/// As above.
#[cfg(not(CONFIG_X86_64))]
#[inline(always)]
unsafe fn int80(regs: &mut PtRegs) {
    // SAFETY: the caller's.
    let arrived = unsafe { Arrived::<Linux, Syscall32>::enter_from_user_mode(regs) };
    let settled = arrived.syscall_32().exit_to_user_mode_prepare();
    settled.exit_to_user_mode().suspend();
}

/// The vDSO's code left EBP on the user's stack: SYSENTER and SYSCALL lose a register each. False if it is not there.
#[inline(always)]
fn fetch_bp(regs: &mut PtRegs) -> bool {
    let (error, value): (usize, usize);
    // SAFETY: Linux's own functions; they take the address in the accumulator, give the word in DX and change nothing else.
    unsafe {
        // A 32-bit address cannot be the 64-bit kernel's.
        #[cfg(CONFIG_X86_64)]
        asm!(
            "call {get}",
            get = sym __get_user_nocheck_4,
            inout("rax") regs.sp as u32 as usize => error,
            out("rdx") value,
        );
        #[cfg(not(CONFIG_X86_64))]
        asm!("call {get}", get = sym __get_user_4, inout("eax") regs.sp => error, out("edx") value);
    }
    if error as i32 != 0 {
        return false;
    }
    // The lower half, as a 32-bit store does.
    regs.bp = regs.bp & !(u32::MAX as usize) | value as u32 as usize;
    true
}

/// SYSENTER and 32-bit SYSCALL, made to look like INT 0x80 at the vDSO's landing pad. Whether the way out may be SYSRET or
/// SYSEXIT.
///
/// # Safety
/// User mode was just left, interrupts are off, nothing else has been done.
#[inline(always)]
unsafe fn fast_syscall(regs: &mut PtRegs) -> isize {
    // SAFETY: the offset of a `long` in the image's description.
    let pad: usize = unsafe { *(&raw const version::vdso_image_32).add(offsets::VDSO_INT80_LANDING_PAD).cast() };
    let landing_pad = task().vdso().wrapping_add(pad);
    // A restarted call goes two bytes back, to an INT 0x80.
    regs.ip = landing_pad;

    // SAFETY: the caller's.
    let arrived = unsafe { Arrived::<Linux, Syscall32>::enter_from_user_mode(regs) };
    let made = arrived.syscall_32_after(|at| {
        let fetched = fetch_bp(at.regs());
        if !fetched {
            at.regs().ax = -EFAULT as usize;
        }
        fetched
    });
    let (settled, fit) = match made {
        Ok(leaving) => {
            let settled = leaving.exit_to_user_mode_prepare();
            let fit = may_return_fast(settled.saved(), landing_pad);
            (settled, fit)
        }
        Err(leaving) => (leaving.exit_to_user_mode_prepare(), false),
    };
    settled.exit_to_user_mode().suspend();
    fit as isize
}

/// Whether SYSRET or SYSEXIT enters user mode with these registers, as far as the code at the landing pad looks at them.
#[inline(always)]
fn may_return_fast(regs: &PtRegs, landing_pad: usize) -> bool {
    let unfit = if cfg!(CONFIG_X86_64) { flags::RF | flags::TF } else { flags::RF | flags::TF | flags::VM };
    let fit = regs.cs as usize == offsets::USER32_CS
        && regs.ss as usize == offsets::USER_DS
        && regs.ip == landing_pad
        && regs.flags & unfit == 0;
    fit && version::may_return_fast(regs)
}

/// SYSENTER leaves the stack pointer to the vDSO, which has it in EBP, and clears IF.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn sysenter(regs: &mut PtRegs) -> isize {
    regs.sp = regs.bp;
    regs.flags |= flags::IF;
    // SAFETY: the caller's.
    unsafe { fast_syscall(regs) }
}

exported! {
    /// INT 0x80.
    #[cfg(CONFIG_IA32_EMULATION)]
    do_int80_emulation, do_int80_emulation_on_moved_stack: int80 -> ();
    /// INT 0x80, by FRED.
    #[cfg(all(CONFIG_IA32_EMULATION, CONFIG_X86_FRED))]
    fred_int80_emulation, fred_int80_on_moved_stack: int80_by_fred -> ();
    /// INT 0x80.
    #[cfg(not(CONFIG_X86_64))]
    do_int80_syscall_32, do_int80_syscall_32_on_moved_stack: int80 -> ();
    /// SYSCALL from compatibility mode.
    #[cfg(CONFIG_X86_64)]
    do_fast_syscall_32, do_fast_syscall_32_on_moved_stack: fast_syscall -> isize;
    /// SYSENTER.
    do_SYSENTER_32, do_sysenter_32_on_moved_stack: sysenter -> isize;
}
