//! The IRET that enters user mode, and what happens if it faults.
//!
//! It faults if a signal frame, a tracer or a changed LDT has put something into CS, SS or RIP that names no segment or
//! address of user mode. The fault hits the kernel, but GS, the general registers and the page table are the user's already. Three steps turn
//! it into an exception that hit user mode:
//!
//! 1. IRET stands alone in [`iret_to_user`], so the door of the fault recognizes its address.
//! 2. That door makes GS and the page table the kernel's, and moves the general registers, which it saved below the fault's
//!    frame, next to the frame that IRET could not load: the user's whole registers, at the top of the thread stack.
//! 3. The Rust half of exceptions from user mode takes them.
//!
//! | where IRET ran | where the fault goes | who moves the registers |
//! | --- | --- | --- |
//! | on the thread stack | the exception's own door, same stack | [`move_to_bad_iret`] |
//! | on the entry stack, with page-table isolation | the exception's own door, same stack | [`move_to_bad_iret`] |
//! | on a read-only alias, to a 16-bit stack ([`espfix`](super::espfix)) | #DF, as the CPU cannot push the frame; its own stack | [`move_from_alias`]; which fault it was is lost, and #GP is reported |

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::align_next;
use super::doors::Doors;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::tables::{Espfix, KERNEL_CS};

/// The IRET that enters user mode.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn iret_to_user() {
    naked_asm!("iretq", align_next!())
}

/// [`iret_to_user`] faulted. Moves the general registers and the error code of the fault to the frame that IRET could not load,
/// at the top of the thread stack.
///
/// # Safety
/// Called by the exception door only: `fault` is what it saved, and its `rsp` points to IRET's frame.
pub(super) unsafe extern "C" fn move_to_bad_iret<K: Doors>(fault: *mut UserRegs) -> *mut UserRegs {
    let words = offset_of!(UserRegs, rip) / 8;
    if K::PAGE_TABLE_ISOLATION {
        // SAFETY: `fault` and IRET's frame are on the entry stack; the thread stack is empty, and this runs below what goes there.
        unsafe {
            let frame = (*fault).rsp as *const u64;
            let user = (CpuLocal::thread_stack_top() as *mut u8).sub(UserRegs::SIZE);
            core::ptr::copy_nonoverlapping(fault.cast::<u64>(), user.cast::<u64>(), words);
            core::ptr::copy_nonoverlapping(frame, user.cast::<u64>().add(words), UserRegs::SIZE / 8 - words);
            return user.cast();
        }
    }
    // SAFETY: IRET's five words are the top of the thread stack, and above `fault`; the regions may overlap.
    unsafe {
        let user = ((*fault).rsp as *mut u8).sub(offset_of!(UserRegs, rip)).cast::<UserRegs>();
        core::ptr::copy(fault.cast::<u64>(), user.cast::<u64>(), words);
        user
    }
}

/// A double fault hit [`iret_to_user`]. If IRET ran on an alias, puts the user's whole registers, from what the door saved and
/// IRET's frame, at the top of the thread stack and returns where; otherwise null.
///
/// # Safety
/// Called by the door of #DF only: `fault` is what it saved, GS is the kernel's.
pub(super) unsafe extern "C" fn move_from_alias(fault: *const UserRegs) -> *mut UserRegs {
    /// Where IRET's frame starts, from the alias.
    const IRET_FRAME: usize = 8;
    let words = offset_of!(UserRegs, rip) / 8;
    // SAFETY: the tables and the thread stack are this CPU's; the stack is empty, as IRET was the end of a way out.
    unsafe {
        let espfix = (*CpuLocal::tables()).espfix;
        let on_alias = (*fault).rsp & !0xffff_0000 == espfix.alias + IRET_FRAME as u64;
        if espfix == Espfix::NONE || (*fault).cs != KERNEL_CS.into() || !on_alias {
            return core::ptr::null_mut();
        }
        let user = (CpuLocal::thread_stack_top() as *mut u8).sub(UserRegs::SIZE);
        core::ptr::copy_nonoverlapping(fault.cast::<u64>(), user.cast::<u64>(), words);
        core::ptr::copy_nonoverlapping(
            (espfix.frame as *const u8).add(IRET_FRAME).cast::<u64>(),
            user.cast::<u64>().add(words),
            UserRegs::SIZE / 8 - words,
        );
        user.cast()
    }
}
