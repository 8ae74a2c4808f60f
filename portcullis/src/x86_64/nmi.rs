//! The NMI door and what surrounds the kernel's handler: an NMI may hit anything, the NMI door included.
//!
//! The CPU blocks NMIs until the next IRET. If the handler takes an exception, that exception's IRET lets the next NMI in too
//! early, and the CPU would push its frame over the one in use. So:
//!
//! * The CPU pushes to a small **entry stack**. The door moves the frame to a **working stack** and runs the handler there;
//!   while it runs, nothing on the entry stack is needed.
//! * A word tells the state: 0 no NMI, 1 one is being handled, 2 another one came meanwhile. The second one notes itself and goes
//!   back; the first then runs its handler again.
//! * The first ends, after it has decremented the word, with two instructions: `jnz` (again?) and `iretq`. An NMI that hits one
//!   of these finds the word at 0 but the working stack in use. The door recognizes its RIP, in kernel mode, and goes back to the
//!   start of the working stack's part. It looks at no RSP, which a user program can set.
//!
//! Not covered: a machine check, or a debug exception of the kernel's own, that hits this door where its frame has nobody's protection,
//! and another NMI. In the door's first instructions, before the frame has moved, the IRET of the first lets NMIs in, and the CPU
//! overwrites the frame on the entry stack. At the last two instructions the word is 0 and the working stack in use, and an NMI that
//! hits the other exception's handler does not see that. `./x prove doors` explores all pairs of events, and finds these alone.
//!
//! An NMI that hit user mode runs its handler on the thread stack, with the door's word at 0, and an exception's IRET may let
//! another one in there, too. So `run` keeps a second word, in [`CpuLocal`]: a handler that is running is run again, not
//! entered again.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::asm::{align_next, call, clac, cld, clear_regs, pop_regs, push_regs};
use super::cpu::msr;
use super::doors::{Doors, Exception};
use super::exception::from_user;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::paranoid::{
    CPU_LOCAL, FSGSBASE, Unwatched, in_kernel, move_to_thread_stack, restore_gs, restore_table, switch_gs, switch_table,
};
use super::regs::{SavedRegs, UserRegs};
use super::tables::NmiStack;
use crate::state::NmiContext;

/// Where the word is, from a `UserRegs` on the working stack.
pub(super) const STATE: usize = FSGSBASE + 8;
const _: () = assert!(offset_of!(NmiStack, state) - offset_of!(NmiStack, cpu_local) == STATE - UserRegs::SIZE);
/// The word, from the frame on the working stack.
const STATE_FROM_FRAME: usize = STATE - offset_of!(UserRegs, rip);
/// The frame on the entry stack, from that on the working stack.
const ENTRY_FROM_WORK: usize = offset_of!(NmiStack, entry_end) - offset_of!(NmiStack, cpu_local);

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
pub(super) unsafe extern "C" fn nmi_entry<K: Doors>() {
    naked_asm!(
        cld!(),
        clac!(),
        "test byte ptr [rsp + 1 * 8], 3",
        "jnz 5f",
        // From the kernel. With RAX pushed, the frames are 8 farther up.
        "push rax",
        // Is one being handled?
        "cmp qword ptr [rsp + {state_from_entry} + 8], 0",
        "jne 3f",
        // Did this one hit the door's last two instructions?
        "lea rax, [rip + 21f]; cmp [rsp + 1 * 8], rax; je 4f",
        "lea rax, [rip + 22f]; cmp [rsp + 1 * 8], rax; je 4f",
        // The first: to the working stack.
        "mov qword ptr [rsp + {state_from_entry} + 8], 1",
        "mov rax, [rsp + 1 * 8]; mov [rsp + 8 - {entry_from_work} + 0 * 8], rax",
        "mov rax, [rsp + 2 * 8]; mov [rsp + 8 - {entry_from_work} + 1 * 8], rax",
        "mov rax, [rsp + 3 * 8]; mov [rsp + 8 - {entry_from_work} + 2 * 8], rax",
        "mov rax, [rsp + 4 * 8]; mov [rsp + 8 - {entry_from_work} + 3 * 8], rax",
        "mov rax, [rsp + 5 * 8]; mov [rsp + 8 - {entry_from_work} + 4 * 8], rax",
        "pop rax",
        "lea rsp, [rsp - {entry_from_work}]",
        // The working stack's part: RSP at the moved frame.
        "2:",
        "push 0; push rdi",
        push_regs!(),
        clear_regs!(),
        switch_table!(),
        switch_gs!(),
        "mov rdi, rsp",
        "mov qword ptr [rsp + {orig_rax}], -1",
        call!("{kernel}"),
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
        // Another one at the last two instructions: handle once more, with the frame on the working stack.
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
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        vector = const Exception::NMI, orig_rax = const offset_of!(UserRegs, orig_rax),
        entry_from_work = const ENTRY_FROM_WORK,
        state_from_entry = const STATE_FROM_FRAME as isize - ENTRY_FROM_WORK as isize,
        state_from_frame = const STATE_FROM_FRAME,
        cpu_local = const CPU_LOCAL, fsgsbase = const FSGSBASE, gs_base = const msr::GS_BASE,
        kernel = sym nmi_hit_kernel::<K>,
        from_user = sym from_user::<K>,
    )
}

/// The Rust half for an NMI that hit the kernel.
///
/// # Safety
/// Called by [`nmi_entry`] and by FRED's entry only.
pub(super) unsafe extern "C" fn nmi_hit_kernel<K: Doors>(regs: &mut SavedRegs) {
    // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved. The handler's state
    // gives write access by an unsafe function that says what may be written.
    unsafe { in_kernel::<K>(regs, |at| run::<K>(at.regs_mut())) }
}

/// No NMI is being handled.
const NONE: u8 = 0;
/// One is.
const RUNNING: u8 = 1;
/// One is, and another one came meanwhile.
const AGAIN: u8 = 2;

/// Runs the kernel's handler, or has it run once more if it is running on this CPU already.
#[inline]
pub(super) fn run<K: Doors>(regs: &mut SavedRegs) {
    let _unwatched = Unwatched::new();
    let mut at = NmiContext::<K>::new(regs);
    once_at_a_time(|| &CpuLocal::this().nmi_state, || at.handle("nmi", K::nmi));
    at.suspend();
}

/// Calls `handler`, and again for what came meanwhile, which finds the state raised and notes itself.
#[inline(always)]
fn once_at_a_time<'a>(state: impl Fn() -> &'a AtomicU8, mut handler: impl FnMut()) {
    if state().load(Relaxed) != NONE {
        state().store(AGAIN, Relaxed);
        return;
    }
    state().store(RUNNING, Relaxed);
    handler();
    // One instruction ends a run: what comes before it is noted, what comes after it calls the handler itself.
    if state().fetch_sub(1, Relaxed) > RUNNING {
        again(&state, &mut handler);
    }
}

/// The runs after the first.
#[cold]
fn again<'a>(state: &dyn Fn() -> &'a AtomicU8, handler: &mut dyn FnMut()) {
    loop {
        handler();
        if state().fetch_sub(1, Relaxed) <= RUNNING {
            return;
        }
    }
}

/// Unblocks NMIs: an IRET to the next instruction.
pub(super) fn unblock() {
    // SAFETY: the frame holds the current stack, flags and code segment; execution continues at 2 with them.
    unsafe {
        core::arch::asm!(
            "mov {old}, rsp",
            "mov {sel:e}, ss; push {sel}; push {old}; pushfq",
            "mov {sel:e}, cs; push {sel}",
            "lea {sel}, [rip + 2f]; push {sel}",
            "iretq",
            "2:",
            old = out(reg) _,
            sel = out(reg) _,
            options(preserves_flags),
        );
    }
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/nmi.rs"]
mod tests;
