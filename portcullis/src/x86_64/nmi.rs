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
//! A machine check, or a debug exception of the kernel's own, may hit this door, too. Its IRET would let the next NMI in, which would
//! be pushed over the frame on the entry stack. So its door does without IRET where it hit this one ([`paranoid`](super::paranoid)).
//! If it hits the last two instructions, its door sets the word back to 1 and lets the decrement be done once more: another NMI that
//! hits its handler notes itself. And one that hits that door's first instructions, before it has done so, finds the last two
//! instructions in the other's frame, and makes that go back to the start of the working stack's part. `./x prove doors` explores all
//! pairs of events.
//!
//! An NMI that hit user mode runs its handler on the thread stack, with the door's word at 0, and an exception's IRET may let
//! another one in there, too. So `run` keeps a second word, in [`CpuLocal`]: a handler that is running is run again, not
//! entered again.

#![expect(named_asm_labels, reason = "another function needs them; each begins with its own function's mangled name")]

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
use super::tables::{IstStack, NmiStack, Tables};
use crate::state::NmiContext;

/// Where the word is, from a `UserRegs` on the working stack.
pub(super) const STATE: usize = FSGSBASE + 8;
const _: () = assert!(offset_of!(NmiStack, state) - offset_of!(NmiStack, cpu_local) == STATE - UserRegs::SIZE);
/// The word, from the frame on the working stack.
const STATE_FROM_FRAME: usize = STATE - offset_of!(UserRegs, rip);
/// The frame on the entry stack, from that on the working stack.
const ENTRY_FROM_WORK: usize = offset_of!(NmiStack, entry_end) - offset_of!(NmiStack, cpu_local);

/// The frames of #DB and #MC that hit the kernel, from that on the entry stack: RIP, the lowest word.
const fn frame_from_entry(stack: usize) -> isize {
    (stack + offset_of!(IstStack, cpu_local)) as isize
        - (offset_of!(Tables, nmi) + offset_of!(NmiStack, entry_end)) as isize
}

/// Whether the RIP at RSP + `$rip` is one of the door's last two instructions: then to `$to`.
macro_rules! hit_end {
    ($rip:literal, $to:literal) => {
        concat!(
            "lea rax, [rip + {this}_again]; cmp [rsp + ",
            $rip,
            "], rax; je ",
            $to,
            "\n",
            "lea rax, [rip + {this}_iret]; cmp [rsp + ",
            $rip,
            "], rax; je ",
            $to,
            "\n",
        )
    };
}

/// What stood at the last two instructions, with its RIP at RSP + `$rip`, goes back to where the handler is called once more.
macro_rules! handle_once_more {
    ($rip:literal) => {
        concat!(
            "mov qword ptr [rsp + {state_from_entry} + 8], 1\n",
            "lea rax, [rip + 2b]\n",
            "mov [rsp + ",
            $rip,
            "], rax\n",
            "pop rax\n",
            "iretq\n",
        )
    };
}

/// The door. The labels with its name in theirs are for [`ist_entry`](super::paranoid::ist_entry).
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
        hit_end!("1 * 8", "4f"),
        // Did #MC or #DB, and this one their door? Not if it was a user's RIP.
        "test byte ptr [rsp + 2 * 8 + {machine_check}], 3; jnz 6f",
        hit_end!("1 * 8 + {machine_check}", "7f"),
        "6:",
        "test byte ptr [rsp + 2 * 8 + {debug}], 3; jnz 6f",
        hit_end!("1 * 8 + {debug}", "8f"),
        "6:",
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
        ".globl {this}_decrement, {this}_again, {this}_iret, {this}_end",
        "{this}_decrement: sub qword ptr [rsp + {state_from_frame}], 1",
        "{this}_again: jnz 2b",
        "{this}_iret: iretq",
        // Another one while one is being handled: note it.
        "3:",
        "mov qword ptr [rsp + {state_from_entry} + 8], 2",
        "pop rax",
        "iretq",
        // Another one at the last two instructions: handle once more, with the frame on the working stack.
        "4:",
        handle_once_more!("1 * 8"),
        "7:",
        handle_once_more!("1 * 8 + {machine_check}"),
        "8:",
        handle_once_more!("1 * 8 + {debug}"),
        // From user mode.
        "5:",
        "push 0",
        move_to_thread_stack!(),
        "mov edi, {vector}",
        "jmp {from_user}",
        "{this}_end:",
        align_next!(),
        this = sym nmi_entry::<K>,
        machine_check = const frame_from_entry(offset_of!(Tables, machine_check)),
        debug = const frame_from_entry(offset_of!(Tables, debug)),
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
