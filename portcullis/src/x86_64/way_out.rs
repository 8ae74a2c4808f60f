//! The last instructions before user mode.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{iret_on_entry_stack, pop_regs, user_table_by_rsp, verw};
use super::bad_iret::iret_to_user;
use super::doors::Doors;
use super::espfix::leave_to_ldt_stack;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::tables::ENTRY_STACK_TOP;

/// Enters user mode by the way in AL. Jumped to by the doors.
///
/// Interrupts off, the kernel's GS, RSP at the [`UserRegs`] on top of the thread stack.
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
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave<K: Doors>() {
    naked_asm!(
        "test al, al",
        "jz {iret}",
        pop_regs!(),
        // From here on the stack is the user's. Nothing may push: interrupts are off, and NMI, #MC and #DB have stacks of
        // their own.
        "mov rsp, [rsp + 3 * 8]",
        user_table_by_rsp!(),
        "swapgs",
        verw!(),
        "sysretq",
        user_table = const user_table::<K>(), user_rsp = const CpuLocal::USER_RSP,
        iret = sym leave_by_iret::<K>,
    )
}

/// Enters 32-bit user mode by the way in AL. Jumped to by the doors of SYSENTER and 32-bit SYSCALL; otherwise as [`leave`].
///
/// SYSRET takes EIP from ECX and the flags from R11. R8 to R10, which 64-bit code of the same program could read, are cleared;
/// R12 to R15 are the user's.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave_32<K: Doors>() {
    naked_asm!(
        "test al, al",
        "jz {iret}",
        "mov ecx, [rsp + {rip}]",
        "mov r11, [rsp + {rflags}]",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "add rsp, {rax} - {r11}", // r11, r10, r9, r8
        "pop rax",
        "add rsp, 8", // rcx
        "pop rdx; pop rsi; pop rdi",
        "xor r8d, r8d; xor r9d, r9d; xor r10d, r10d",
        // From here on the stack is the user's, as in `leave`.
        "mov rsp, [rsp + {rsp} - {orig_rax}]",
        user_table_by_rsp!(),
        "swapgs",
        verw!(),
        "sysret",
        user_table = const user_table::<K>(), user_rsp = const CpuLocal::USER_RSP,
        iret = sym leave_by_iret::<K>,
        rip = const offset_of!(UserRegs, rip), rflags = const offset_of!(UserRegs, rflags),
        rsp = const offset_of!(UserRegs, rsp), orig_rax = const offset_of!(UserRegs, orig_rax),
        rax = const offset_of!(UserRegs, rax), r11 = const offset_of!(UserRegs, r11),
    )
}

/// Enters user mode by IRET. As [`leave`].
///
/// With page-table isolation IRET's frame moves to the entry stack: the user's table does not map the thread stack.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave_by_iret<K: Doors>() {
    naked_asm!(
        pop_regs!(),
        // A stack segment of the LDT may be 16-bit.
        "test byte ptr [rsp + 4 * 8], 4",
        "jnz {to_ldt_stack}",
        iret_on_entry_stack!(),
        "swapgs",
        verw!(),
        "jmp {iret}",
        user_table = const user_table::<K>(),
        tables = const CpuLocal::TABLES, entry_stack = const ENTRY_STACK_TOP,
        to_ldt_stack = sym leave_to_ldt_stack::<K>,
        iret = sym iret_to_user,
    )
}
