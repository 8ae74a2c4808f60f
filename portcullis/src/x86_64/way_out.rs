//! The last instructions before user mode.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{align_next, iret_on_entry_stack, pop_general, user_table_by_rsp, verw};
use super::bad_iret::iret_to_user;
use super::doors::Doors;
use super::espfix::leave_to_ldt_stack;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::sysret::{TRAPS, at, highest, unless_sysret_is_equivalent};
use super::tables::{ENTRY_STACK_TOP, USER_CS, USER_DS};

/// Enters user mode by SYSRET if that is equivalent, otherwise by IRET. The end of SYSCALL's door, and [`enter_user_mode`].
///
/// Interrupts off, the kernel's GS, RSP at the [`UserRegs`] on top of the thread stack.
///
/// ```text
///   rsp → r15 … rdi             popped
///         orig_rax
///         rip                    IRET's frame; SYSRET has RIP in RCX and RFLAGS in R11
///         cs
///         rflags
///         rsp
///         ss                     the top of the thread stack
/// ```
macro_rules! leave_by_sysret {
    () => {
        concat!(
            pop_general!(),
            unless_sysret_is_equivalent!("rsp", "{iret}"),
            // From here on the stack is the user's. Nothing may push: interrupts are off, and NMI, #MC and #DB have stacks of
            // their own.
            "mov rsp, [rsp + {rsp}]\n",
            user_table_by_rsp!(),
            "swapgs\n",
            verw!(),
            "sysretq\n",
        )
    };
}

/// Enters user mode by SYSRET if that is equivalent, otherwise by IRET; with FRED by ERETU.
///
/// To be jumped to, not called, with RSP at the [`UserRegs`] on top of the task's thread stack.
///
/// # Safety
/// Interrupts are off, and the state of the crossing became [`Cleared`](crate::Cleared).
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub unsafe extern "C" fn enter_user_mode<K: Doors>() {
    naked_asm!(
        ".if {fred}",
        "cmp byte ptr [rip + portcullis_fred_is_on], 0",
        "jne portcullis_leave_by_eretu",
        ".endif",
        leave_by_sysret!(),
        align_next!(),
        fred = const K::FRED as u8,
        user_table = const user_table::<K>(), user_rsp = const CpuLocal::USER_RSP,
        iret = sym leave_by_iret_popped::<K>,
        rip = const at::RIP, cs = const at::CS, rflags = const at::RFLAGS, rsp = const at::RSP, ss = const at::SS,
        user_cs = const USER_CS, user_ds = const USER_DS, highest = const highest(K::PAGING), traps = const TRAPS,
    )
}

/// Enters 32-bit user mode by the way in AL. Jumped to by the doors of SYSENTER and 32-bit SYSCALL; otherwise as [`enter_user_mode`].
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
        // From here on the stack is the user's, as in `leave_by_sysret`.
        "mov rsp, [rsp + {rsp} - {orig_rax}]",
        user_table_by_rsp!(),
        "swapgs",
        verw!(),
        "sysret",
        align_next!(),
        user_table = const user_table::<K>(), user_rsp = const CpuLocal::USER_RSP,
        iret = sym leave_by_iret::<K>,
        rip = const offset_of!(UserRegs, rip), rflags = const offset_of!(UserRegs, rflags),
        rsp = const offset_of!(UserRegs, rsp), orig_rax = const offset_of!(UserRegs, orig_rax),
        rax = const offset_of!(UserRegs, rax), r11 = const offset_of!(UserRegs, r11),
    )
}

/// From `orig_rax` on, with the user's values in all registers: enters user mode by IRET.
///
/// With page-table isolation IRET's frame moves to the entry stack: the user's table does not map the thread stack.
macro_rules! leave_by_iret_popped {
    () => {
        concat!(
            "add rsp, 8\n",
            // A stack segment of the LDT may be 16-bit.
            "test byte ptr [rsp + 4 * 8], 4\njnz {to_ldt_stack}\n",
            iret_on_entry_stack!(),
            "swapgs\n",
            verw!(),
            "jmp {iret}\n",
        )
    };
}

/// Enters user mode by IRET: interrupts off, the kernel's GS, RSP at the [`UserRegs`].
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave_by_iret<K: Doors>() {
    naked_asm!(
        pop_general!(),
        leave_by_iret_popped!(),
        align_next!(),
        user_table = const user_table::<K>(),
        tables = const CpuLocal::TABLES, entry_stack = const ENTRY_STACK_TOP,
        to_ldt_stack = sym leave_to_ldt_stack::<K>,
        iret = sym iret_to_user,
    )
}

/// The same for [`leave_by_sysret!`], which has popped the registers.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave_by_iret_popped<K: Doors>() {
    naked_asm!(
        leave_by_iret_popped!(),
        align_next!(),
        user_table = const user_table::<K>(),
        tables = const CpuLocal::TABLES, entry_stack = const ENTRY_STACK_TOP,
        to_ldt_stack = sym leave_to_ldt_stack::<K>,
        iret = sym iret_to_user,
    )
}

pub(super) use leave_by_sysret;
