//! The door of 64-bit SYSCALL, and a task's first way out, which is the end of a system call.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{align_next, call, clear_regs, kernel_table, pop_general, push_regs, user_table_by_rsp, verw};
use super::doors::{Doors, check_flags};
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::{UserRegs, flags};
use super::sysret::{SysretOrIret, TRAPS, at, highest, unless_sysret_is_equivalent};
use super::tables::{USER_CS, USER_DS};
use super::way_out::{enter_user_mode, leave_by_iret_popped, leave_by_sysret};
use crate::machine::InterruptFlag;
use crate::state::{Arrived, InSyscall, Syscall};

/// The flags that SYSCALL clears (SFMASK): IF, and all that user mode can set. TF, DF, IOPL, NT, RF and AC would affect the kernel.
pub const CLEARED_FLAGS: u64 = UserRegs::FLAGS | flags::IF | flags::IOPL;

/// Linux's ENOSYS.
pub(super) const ENOSYS: i32 = 38;

/// 64-bit SYSCALL (SDM volume 2, SYSCALL). LSTAR points here.
///
/// ```text
///   in:   RAX number, RDI RSI RDX R10 R8 R9 arguments, RCX the user's RIP, R11 the user's RFLAGS,
///         RSP and GS the user's, interrupts off
///
///   top of the thread stack
///     ss       +160    USER_DS
///     rsp      +152    through CpuLocal::user_rsp, as no register is free
///     rflags   +144    R11
///     cs       +136    USER_CS
///     rip      +128    RCX
///     orig_rax +120    RAX
///     rdi      +112
///     rsi … r15  +104 … 0    rax as -ENOSYS
/// ```
///
/// 1. GS, the page table and the stack become the kernel's. Nothing is pushed before that: RSP is the user's.
/// 2. The frame that an interrupt would have pushed is built, the other registers are saved, then cleared.
/// 3. The Rust half makes the system call and does the exit work.
/// 4. The user's registers come back, and user mode is entered ([`leave_by_sysret!`]).
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn syscall64_entry<K: Doors>() {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_rsp}], rsp",
        kernel_table!("rsp"),
        "mov rsp, gs:[{thread_stack}]",
        // The frame: ss, rsp, rflags, cs, rip.
        "push {user_ds}; push qword ptr gs:[{user_rsp}]; push r11; push {user_cs}; push rcx",
        "push rax; push rdi",
        push_regs!("-{enosys}"),
        clear_regs!(),
        "mov rdi, rsp",
        call!("{syscall}"),
        leave_by_sysret!(),
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        user_rsp = const CpuLocal::USER_RSP, user_ds = const USER_DS, user_cs = const USER_CS,
        enosys = const ENOSYS,
        syscall = sym syscall::<K>,
        iret = sym leave_by_iret_popped::<K>,
        rip = const at::RIP, cs = const at::CS, rflags = const at::RFLAGS, rsp = const at::RSP, ss = const at::SS,
        highest = const highest(K::PAGING), traps = const TRAPS,
    )
}

const _: () = assert!(offset_of!(UserRegs, ss) == 160 && offset_of!(UserRegs, rdi) == 112);

/// The Rust half: the whole system call.
///
/// # Safety
/// Called by [`syscall64_entry`] and by FRED's entry only.
#[allow(improper_ctypes_definitions, reason = "the return value is a proof, and nothing at run time")]
pub(super) unsafe extern "C" fn syscall<K: Doors>(regs: &mut UserRegs) -> SysretOrIret {
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved.
    let arrived: Arrived<'_, K, Syscall> = unsafe { Arrived::enter_from_user_mode(regs) };
    check_flags::<K>();
    arrived.syscall_and_exit_work().sysret_or_iret().into()
}

/// A task's first way out, after fork or when the first program starts: the end of the system call that made the task, so
/// armed system-call work is done (Linux: `ret_from_fork`).
///
/// To be jumped or returned to, not called, with interrupts off and RSP at the [`UserRegs`] on top of the task's thread stack.
///
/// # Safety
/// The switch to the task is complete ([`CpuLocal::switch_to`](super::CpuLocal::switch_to)).
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub unsafe extern "C" fn first_way_out<K: Doors>() {
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        call!("{first}"),
        "jmp {leave}",
        align_next!(),
        first = sym first::<K>,
        leave = sym enter_user_mode::<K>,
    )
}

/// The Rust half.
///
/// # Safety
/// Called by [`first_way_out`] only.
#[allow(improper_ctypes_definitions, reason = "as `syscall`")]
unsafe extern "C" fn first<K: Doors>(regs: &mut UserRegs) -> SysretOrIret {
    // SAFETY: ordinary kernel code on the task's own stack; the rest is the caller's.
    let made: InSyscall<'_, K, Syscall> = unsafe {
        K::Irqs::on();
        InSyscall::assume(regs)
    };
    made.exit_to_user_mode_prepare().sysret_or_iret().into()
}

/// SYSCALL from compatibility mode if the 32-bit doors are closed ([`IA32_EMULATION`](super::Doors::IA32_EMULATION)): the
/// call fails with -ENOSYS. Goes back at once, without a state or a [`WayOut`]: nothing of the kernel's has run.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn syscall32_entry_closed() {
    naked_asm!("mov eax, -{enosys}", verw!(), "sysret", align_next!(), enosys = const ENOSYS)
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/syscall64.rs"]
mod tests;
