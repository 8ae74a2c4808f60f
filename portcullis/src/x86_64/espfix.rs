//! The way out to a 16-bit stack segment.
//!
//! IRET to a 16-bit SS loads SP and leaves bits 16 to 31 of RSP as they were in the kernel (SDM volume 3, 22.31.1): half of the
//! thread stack's address leaks, and the user's own half is lost (CVE-2014-8134). So for a stack segment of the LDT, the only
//! ones that can be 16-bit, IRET's frame is copied to a few bytes that are mapped at 65536 addresses, one for each value
//! of those bits, and IRET runs on the one that has the user's.
//!
//! ```text
//!   alias | user's RSP & 0xffff_0000
//!     rax     +0     popped
//!     rip     +8     ← rsp at IRET
//!     cs      +16
//!     rflags  +24
//!     rsp     +32
//!     ss      +40
//! ```
//!
//! The aliases are read-only. If IRET faults there, the CPU cannot push the fault's frame, and the fault becomes a double
//! fault, which has a stack of its own. Its door recognises the address, and makes it a general-protection fault that
//! hit user mode, as [`exception`](super::exception) does with the IRETs that fault elsewhere. (Were the aliases
//! writable, the fault's frame would destroy IRET's.)

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::iret_to_user;
use super::asm::{iret_on_entry_stack, user_table, verw};
use super::doors::Doors;
use super::isolation;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::tables::{ENTRY_STACK_TOP, Espfix, KERNEL_CS, Tables};

/// Where this CPU's [`Espfix`] is.
const FRAME: usize = offset_of!(Tables, espfix) + offset_of!(Espfix, frame);
const ALIAS: usize = offset_of!(Tables, espfix) + offset_of!(Espfix, alias);

/// Enters user mode with a stack segment of the LDT. As [`leave_by_iret`](super::way_out), with the general registers
/// restored: RSP is at IRET's frame on top of the thread stack, GS the kernel's.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave_to_ldt_stack<K: Doors>() {
    naked_asm!(
        "push rdi",
        "mov rdi, gs:[{tables}]",
        "mov rdi, [rdi + {frame}]",
        "test rdi, rdi",
        "jz 2f",
        "mov [rdi], rax",
        "mov rax, [rsp + 1 * 8]", // rip
        "mov [rdi + 1 * 8], rax",
        "mov rax, [rsp + 2 * 8]", // cs
        "mov [rdi + 2 * 8], rax",
        "mov rax, [rsp + 3 * 8]", // rflags
        "mov [rdi + 3 * 8], rax",
        "mov rax, [rsp + 5 * 8]", // ss
        "mov [rdi + 5 * 8], rax",
        "mov rax, [rsp + 4 * 8]", // rsp
        "mov [rdi + 4 * 8], rax",
        "and eax, 0xffff0000",
        "mov rdi, gs:[{tables}]",
        "or rax, [rdi + {alias}]",
        "pop rdi",
        "swapgs",
        "mov rsp, rax",
        user_table!("rax"),
        "pop rax",
        verw!(),
        "jmp {iret}",
        "2: pop rdi",
        iret_on_entry_stack!(),
        "swapgs",
        verw!(),
        "jmp {iret}",
        tables = const CpuLocal::TABLES,
        frame = const FRAME,
        alias = const ALIAS,
        user_table = const isolation::user_table::<K>(),
        entry_stack = const ENTRY_STACK_TOP,
        iret = sym iret_to_user,
    )
}

/// A double fault hit [`iret_to_user`]. If IRET ran on an alias, moves the user's whole registers to the top of the thread
/// stack and says where: the general ones are those that the door saved, the others are IRET's frame. Null otherwise.
///
/// # Safety
/// Called by the door of #DF only: `fault` is what it saved, GS is the kernel's.
pub(super) unsafe extern "C" fn move_from_alias(fault: *const UserRegs) -> *mut UserRegs {
    /// RIP's place in the frame.
    const IRET_FRAME: usize = 8;
    let words = offset_of!(UserRegs, rip) / 8;
    // SAFETY: the tables and the thread stack are this CPU's; nothing is left on that stack, as IRET was the last instruction
    // of a way out.
    unsafe {
        let espfix = (*CpuLocal::tables()).espfix;
        let on_alias = (*fault).rsp & !0xffff_0000 == espfix.alias + IRET_FRAME as u64;
        if espfix == Espfix::NONE || (*fault).cs != KERNEL_CS.into() || !on_alias {
            return core::ptr::null_mut();
        }
        let user = (CpuLocal::this().thread_stack as *mut u8).sub(UserRegs::SIZE);
        core::ptr::copy_nonoverlapping(fault.cast::<u64>(), user.cast::<u64>(), words);
        core::ptr::copy_nonoverlapping(
            (espfix.frame as *const u8).add(IRET_FRAME).cast::<u64>(),
            user.cast::<u64>().add(words),
            UserRegs::SIZE / 8 - words,
        );
        user.cast()
    }
}
