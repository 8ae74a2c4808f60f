//! The 32-bit doors: INT 0x80, SYSENTER, and SYSCALL from compatibility mode, if the kernel opens them
//! ([`Doors::IA32_EMULATION`]). All three make a call of the i386 table: the number in EAX, the arguments in EBX, ECX, EDX,
//! ESI, EDI and EBP.
//!
//! INT 0x80 may be used by 32- and 64-bit code, saves everything and returns to the next instruction. The other two do not say
//! where they come from: SYSENTER saves neither EIP nor ESP, SYSCALL overwrites ECX. So they are for the vDSO's
//! `__kernel_vsyscall`, by a convention with the kernel (Linux, `arch/x86/entry/vdso/vdso32/system_call.S`): it pushes ECX,
//! EDX and EBP; EBP is ESP at SYSENTER and ECX at SYSCALL; and it continues after its INT 0x80
//! ([`Doors::int80_landing_pad`]), where it pops the three. The sixth argument is therefore a word of user memory, which may be
//! unmapped.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{align_next, call, clac, cld, clear_regs, kernel_table, leave_entry_stack, push_regs};
use super::doors::{Doors, check_flags};
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::{UserRegs, flags};
use super::syscall64::ENOSYS;
use super::sysret::WayOut;
use super::tables::{USER_DS, USER32_CS};
use super::way_out::{leave_32, leave_by_iret};
use crate::state::{Arrived, Syscall32};

/// The vector of INT 0x80. No device may use it: the door assumes that user mode was hit.
pub const INT80: u8 = 0x80;

/// Linux's EFAULT.
const EFAULT: u64 = 14;

/// INT 0x80. The IDT's gate for vector 0x80, which user mode may use, points here.
///
/// ```text
///   in:   EAX number, EBX ECX EDX ESI EDI EBP arguments; anything in the upper halves and in R8 to R15.
///         GS the user's, interrupts off; the gate has cleared TF, NT and RF, but neither DF nor AC
///
///   top of the thread stack (RSP0; with page-table isolation moved there from the entry stack)
///     ss       +160    pushed by the CPU
///     rsp      +152
///     rflags   +144
///     cs       +136    32- or 64-bit
///     rip      +128
///     orig_rax +120    EAX, zero-extended
///     rdi      +112
///     rsi … r15  +104 … 0    rax as -ENOSYS, the others whole: 64-bit code gets them back
/// ```
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn int80_entry<K: Doors>() {
    naked_asm!(
        cld!(),
        clac!(),
        // Not conditional, so without a fence: the gate is for user mode.
        "swapgs",
        leave_entry_stack!(frame),
        "mov eax, eax",
        "push rax; push rdi",
        "mov rax, -{enosys}",
        push_regs!(),
        clear_regs!(),
        "mov rdi, rsp",
        call!("{int80}"),
        "jmp {leave}",
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        enosys = const ENOSYS,
        int80 = sym int80::<K>,
        leave = sym leave_by_iret::<K>,
    )
}

/// The Rust half of INT 0x80.
///
/// # Safety
/// Called by [`int80_entry`] and by FRED's entry only.
pub(super) unsafe extern "C" fn int80<K: Doors>(regs: &mut UserRegs) -> WayOut {
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved.
    let arrived: Arrived<'_, K, Syscall32> = unsafe { Arrived::enter_from_user_mode(regs) };
    check_flags::<K>();
    let leaving = arrived.syscall_32();
    leaving.exit_to_user_mode_prepare().iret()
}

/// The size of [`sysenter_entry`], padded with INT3, for [`is_sysenter_step`].
const SYSENTER_SIZE: usize = 192;

/// SYSENTER (SDM volume 2, SYSENTER). The MSR SYSENTER_EIP points here.
///
/// The CPU saves nothing, not even where it comes from, and clears IF, VM and RF of the flags. If the user has set TF, a debug
/// exception follows each instruction of this door until TF is cleared ([`is_sysenter_step`]).
///
/// ```text
///   in:   EAX number, EBX ECX EDX ESI EDI arguments, EBP the user's stack pointer, the user's EBP at that address,
///         RSP from SYSENTER_ESP and no stack, GS the user's, interrupts off, all other flags the user's
///
///   top of the thread stack
///     ss       +160    USER_DS
///     rsp      +152    RBP
///     rflags   +144    the user's, with IF set again
///     cs       +136    USER32_CS
///     rip      +128    0; the Rust half puts the landing pad there
///     orig_rax +120    EAX, zero-extended
///     rdi      +112
///     rsi … r15  +104 … 0    rax as -ENOSYS; rbp is read from user memory by the Rust half
/// ```
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn sysenter_entry<K: Doors>() {
    naked_asm!(
        "770:",
        "swapgs",
        // `kernel_table` with LEA, which changes no flags: they are the user's until they are saved.
        ".if {user_table}",
        "mov rsp, cr3",
        "lea rsp, [rsp - {user_table}]",
        "mov cr3, rsp",
        ".endif",
        "mov rsp, gs:[{thread_stack}]",
        // The frame: ss, rsp, rflags, cs, rip.
        "push {user_ds}; push rbp; pushfq; or qword ptr [rsp], {interrupt_flag}; push {user_cs}; push 0",
        "mov eax, eax",
        "push rax; push rdi",
        "mov rax, -{enosys}",
        push_regs!(),
        clear_regs!(),
        cld!(),
        // Does another flag of the user's affect the kernel? They are rare, and POPFQ is slow.
        "test dword ptr [rsp + {rflags}], {steering}",
        "jnz 5f",
        "4: mov rdi, rsp",
        call!("{fast}"),
        "jmp {leave}",
        "5: push {fixed}; popfq; jmp 4b",
        ".skip {size} - (. - 770b), 0xcc",
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        user_ds = const USER_DS, user_cs = const USER32_CS, interrupt_flag = const flags::IF,
        rflags = const offset_of!(UserRegs, rflags), steering = const flags::TF | flags::NT | flags::AC,
        fixed = const flags::FIXED,
        enosys = const ENOSYS,
        fast = sym fast::<K>,
        leave = sym leave_32::<K>,
        size = const SYSENTER_SIZE,
    )
}

/// Whether a debug exception in the kernel at `rip` is the user's single step, which SYSENTER lets in until the door clears TF.
/// The door saves TF before, so user mode gets it back.
pub(super) fn is_sysenter_step<K: Doors>(rip: u64) -> bool {
    let start = sysenter_entry::<K> as *const () as u64;
    rip.wrapping_sub(start) < SYSENTER_SIZE as u64
}

/// SYSCALL from compatibility mode (APM volume 3, SYSCALL). The MSR CSTAR points here.
///
/// ```text
///   in:   EAX number, EBX EBP EDX ESI EDI arguments, ECX the user's EIP, R11 the user's RFLAGS, the user's EBP at the stack
///         pointer, RSP and GS the user's, interrupts off, flags as SFMASK leaves them
///
///   top of the thread stack
///     ss       +160    USER_DS
///     rsp      +152    through CpuLocal::user_rsp, as no register is free
///     rflags   +144    R11
///     cs       +136    USER32_CS
///     rip      +128    ECX; the Rust half puts the landing pad there
///     orig_rax +120    EAX, zero-extended
///     rdi      +112
///     rsi … r15  +104 … 0    rax as -ENOSYS; rcx is EBP; rbp is read from user memory by the Rust half
/// ```
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn syscall32_entry<K: Doors>() {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_rsp}], rsp",
        kernel_table!("rsp"),
        "mov rsp, gs:[{thread_stack}]",
        // The frame: ss, rsp, rflags, cs, rip.
        "push {user_ds}; push qword ptr gs:[{user_rsp}]; push r11; push {user_cs}; push rcx",
        "mov eax, eax",
        "push rax; push rdi",
        "mov rcx, rbp",
        "mov rax, -{enosys}",
        push_regs!(),
        clear_regs!(),
        "mov rdi, rsp",
        call!("{fast}"),
        "jmp {leave}",
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        user_rsp = const CpuLocal::USER_RSP, user_ds = const USER_DS, user_cs = const USER32_CS,
        enosys = const ENOSYS,
        fast = sym fast::<K>,
        leave = sym leave_32::<K>,
    )
}

/// The Rust half of SYSENTER and SYSCALL: fetches the sixth argument, makes the call, and leaves at the landing pad.
///
/// A word that cannot be read is the program's mistake: the result is -EFAULT, EBP is 0, and as no system call was made, no
/// system-call work is done (as in Linux 6.1).
///
/// # Safety
/// Called by [`sysenter_entry`], [`syscall32_entry`] and FRED's entry only.
pub(super) unsafe extern "C" fn fast<K: Doors>(regs: &mut UserRegs) -> WayOut {
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved.
    let mut arrived: Arrived<'_, K, Syscall32> = unsafe { Arrived::enter_from_user_mode(regs) };
    check_flags::<K>();
    let landing_pad = K::int80_landing_pad();
    arrived.regs().rip = landing_pad;

    let made = arrived.syscall_32_after(|at| {
        let stack_pointer = at.saved().rsp as u32;
        match K::user_word(at, stack_pointer) {
            Some(ebp) => {
                at.regs().rbp = ebp.into();
                true
            }
            None => {
                at.regs().rax = EFAULT.wrapping_neg();
                at.regs().rbp = 0;
                at.regs().orig_rax = UserRegs::NO_SYSCALL;
                false
            }
        }
    });
    match made {
        Ok(leaving) => leaving.exit_to_user_mode_prepare().sysret32_or_iret(landing_pad),
        Err(leaving) => leaving.exit_to_user_mode_prepare().iret(),
    }
}
