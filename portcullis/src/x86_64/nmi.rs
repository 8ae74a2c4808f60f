//! The NMI door: an NMI may hit anything, the NMI door included.
//!
//! The CPU holds NMIs off until the next IRET. (A machine check in the door's first instructions, and at once another NMI, are
//! therefore one too many: the frame has not been moved yet.) If the handler takes an exception, that exception's IRET lets the next
//! NMI in too early, and the CPU would push its frame over the one in use. So:
//!
//! * The CPU pushes to a small **entry stack**. The door moves the frame to a **working stack** and runs the handler
//!   there; nothing is ever live on the entry stack when an IRET happens.
//! * A word says how it stands: 0 no NMI, 1 one is being handled, 2 another one came meanwhile. The second one only notes
//!   that and goes back; the first runs its handler once more.
//! * The first ends with two instructions after it has taken the word down: `jnz` (again?) and `iretq`. An NMI that hits
//!   exactly there finds the word at 0 but the working stack in use. It is recognised by its RIP, in kernel mode, and
//!   goes back to the start of the working stack's part. No value that a user program can set is looked at: not RSP.
//! * One that hit user mode has left the entry stack when its handler runs, so the word stays at 0, and one that comes during the
//!   handler takes the door like a first one. That the handler is not entered again is seen to around it
//!   (`nmi_handler`).

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{clac, cld, clear_regs, pop_regs, push_regs};
use super::cpu::msr;
use super::doors::{Doors, Exception};
use super::exception::from_user;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::nmi_handler;
use super::paranoid::{
    CPU_LOCAL, FSGSBASE, in_kernel, move_to_thread_stack, restore_gs, restore_table, switch_gs, switch_table,
};
use super::regs::UserRegs;
use super::tables::NmiStack;

/// Where the word is, from a `UserRegs` on the working stack.
pub(super) const STATE: usize = FSGSBASE + 8;
/// From the frame on the working stack up to the word.
const STATE_FROM_FRAME: usize = STATE - offset_of!(UserRegs, rip);
/// From the frame on the working stack up to the frame on the entry stack.
const ENTRY_FROM_WORK: usize = offset_of!(NmiStack, entry_end) - offset_of!(NmiStack, top);

/// The door.
///
/// ```text
///   in:   interrupts and NMIs off, everything else as it was
///
///   entry stack, top                    working stack, top: CPU_LOCAL, FSGSBASE, STATE
///     ss      +32                         ss
///     rsp     +24                         rsp
///     rflags  +16                         rflags
///     cs      +8                          cs
///     rip     +0   ← rsp                  rip      ENTRY_FROM_WORK below the one on the left
/// ```
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn entry<K: Doors>() {
    naked_asm!(
        cld!(),
        clac!(),
        "test byte ptr [rsp + 1 * 8], 3",
        "jnz 5f",
        // From the kernel. With RAX pushed, the frames are 8 further up.
        "push rax",
        // Is one being handled?
        "cmp qword ptr [rsp + {state_from_entry} + 8], 0",
        "jne 3f",
        // Did this one hit the door's last two instructions?
        "lea rax, [rip + 21f]",
        "cmp [rsp + 1 * 8], rax",
        "je 4f",
        "lea rax, [rip + 22f]",
        "cmp [rsp + 1 * 8], rax",
        "je 4f",
        // The first: over to the working stack.
        "mov qword ptr [rsp + {state_from_entry} + 8], 1",
        "mov rax, [rsp + 1 * 8]",
        "mov [rsp + 8 - {entry_from_work} + 0 * 8], rax",
        "mov rax, [rsp + 2 * 8]",
        "mov [rsp + 8 - {entry_from_work} + 1 * 8], rax",
        "mov rax, [rsp + 3 * 8]",
        "mov [rsp + 8 - {entry_from_work} + 2 * 8], rax",
        "mov rax, [rsp + 4 * 8]",
        "mov [rsp + 8 - {entry_from_work} + 3 * 8], rax",
        "mov rax, [rsp + 5 * 8]",
        "mov [rsp + 8 - {entry_from_work} + 4 * 8], rax",
        "pop rax",
        "lea rsp, [rsp - {entry_from_work}]",
        // The working stack's part: RSP at the moved frame.
        "2:",
        "push 0",
        "push rdi",
        push_regs!(),
        clear_regs!(),
        switch_table!(),
        switch_gs!(),
        "mov rdi, rsp",
        "mov qword ptr [rsp + {orig_rax}], -1",
        "sub rsp, 8",
        "call {kernel}",
        "add rsp, 8",
        restore_table!(),
        restore_gs!(),
        pop_regs!(),
        "sub qword ptr [rsp + {state_from_frame}], 1",
        "21: jnz 2b",
        "22: iretq",
        // Another one while one is being handled: note it.
        "3:",
        "mov qword ptr [rsp + {state_from_entry} + 8], 2",
        "pop rax",
        "iretq",
        // Another one at the last two instructions: handle once more, with the frame that is on the working stack.
        "4:",
        "mov qword ptr [rsp + {state_from_entry} + 8], 1",
        "lea rax, [rip + 2b]",
        "mov [rsp + 1 * 8], rax",
        "pop rax",
        "iretq",
        // From user mode.
        "5:",
        "push 0",
        move_to_thread_stack!(),
        "mov edi, {vector}",
        "jmp {from_user}",
        user_table = const user_table::<K>(),
        vector = const Exception::NMI,
        orig_rax = const offset_of!(UserRegs, orig_rax),
        entry_from_work = const ENTRY_FROM_WORK,
        state_from_entry = const STATE_FROM_FRAME as isize - ENTRY_FROM_WORK as isize,
        state_from_frame = const STATE_FROM_FRAME,
        cpu_local = const CPU_LOCAL,
        fsgsbase = const FSGSBASE,
        gs_base = const msr::GS_BASE,
        thread_stack = const CpuLocal::THREAD_STACK,
        kernel = sym hit_kernel::<K>,
        from_user = sym from_user::<K>,
    )
}

/// The Rust half for an NMI that hit the kernel.
///
/// # Safety
/// Called by [`entry`] only.
unsafe extern "C" fn hit_kernel<K: Doors>(regs: &mut UserRegs) {
    // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved.
    unsafe { in_kernel::<K>(regs, nmi_handler::run::<K>) }
}

// The doors find these from a `UserRegs` right below the top.
const _: () = assert!(offset_of!(NmiStack, state) - offset_of!(NmiStack, top) == STATE - UserRegs::SIZE);
