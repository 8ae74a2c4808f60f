//! The SYSCALL door.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{clear_regs, kernel_table, push_regs};
use super::doors::{Doors, check_flags};
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::{UserRegs, flags};
use super::sysret::WayOut;
use super::tables::{USER_CS, USER_DS};
use super::way_out::leave;
use crate::state::Arrived;

/// The flags that SYSCALL clears (SFMASK): everything that could steer kernel code. Interrupts stay off until the
/// stack is the kernel's; TF, DF, AC, NT and IOPL must not follow the user in.
pub const CLEARED_FLAGS: u64 = flags::CF
    | flags::PF
    | flags::AF
    | flags::ZF
    | flags::SF
    | flags::TF
    | flags::IF
    | flags::DF
    | flags::OF
    | flags::IOPL
    | flags::NT
    | flags::RF
    | flags::AC
    | flags::ID;

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
///     rsp      +152    by way of CpuLocal::user_rsp, as no register is free
///     rflags   +144    R11
///     cs       +136    USER_CS
///     rip      +128    RCX
///     orig_rax +120    RAX
///     rdi      +112
///     rsi … r15  +104 … 0    rax as -ENOSYS
/// ```
///
/// 1. GS, the page table and the stack become the kernel's; nothing is pushed before that, as RSP is whatever the user made it.
/// 2. All registers are saved and those that the user filled are cleared.
/// 3. The Rust half makes the system call and all exit work.
/// 4. It says by which way to leave.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn syscall_entry<K: Doors>() {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_rsp}], rsp",
        kernel_table!("rsp"),
        "mov rsp, gs:[{thread_stack}]",
        "push {user_ds}",
        "push qword ptr gs:[{user_rsp}]",
        "push r11",
        "push {user_cs}",
        "push rcx",
        "push rax",
        "push rdi",
        "mov rax, -{enosys}",
        push_regs!(),
        clear_regs!(),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {syscall}",
        "add rsp, 8",
        "jmp {leave}",
        user_table = const user_table::<K>(),
        user_rsp = const CpuLocal::USER_RSP,
        thread_stack = const CpuLocal::THREAD_STACK,
        user_ds = const USER_DS,
        user_cs = const USER_CS,
        enosys = const ENOSYS,
        syscall = sym syscall::<K>,
        leave = sym leave::<K>,
    )
}

const _: () = assert!(offset_of!(UserRegs, ss) == 160 && offset_of!(UserRegs, rdi) == 112);

/// The Rust half: the whole system call in a few lines.
///
/// # Safety
/// Called by [`syscall_entry`] only.
unsafe extern "C" fn syscall<K: Doors>(regs: &mut UserRegs) -> WayOut {
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved.
    let arrived = unsafe { Arrived::enter_from_user_mode::<K>(regs) };
    check_flags::<K>();
    let leaving = arrived.syscall::<K>();
    let cleared = leaving.exit_to_user_mode::<K>();
    let way = cleared.sysret_or_iret(K::USER_ADDRESS_BITS);
    K::leaving_by(way);
    way
}

/// SYSCALL from compatibility mode where the 32-bit doors are closed
/// ([`IA32_EMULATION`](super::Doors::IA32_EMULATION)): the call fails with -ENOSYS. CSTAR points somewhere on every CPU, so
/// that no user program can make the CPU jump to address 0 in ring 0.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn syscall_entry_closed() {
    naked_asm!("mov eax, -{enosys}", "sysret", enosys = const ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guest tests show each flag but DF, which the emulator clears by itself.
    #[test]
    fn syscall_clears_every_flag_that_steers_the_kernel() {
        for (name, flag) in [
            ("TF", flags::TF),
            ("IF", flags::IF),
            ("DF", flags::DF),
            ("IOPL", flags::IOPL),
            ("NT", flags::NT),
            ("RF", flags::RF),
            ("AC", flags::AC),
        ] {
            assert_eq!(CLEARED_FLAGS & flag, flag, "{name}");
        }
    }
}
