//! The interrupt flag and the context tracking that a new kernel just takes.

use core::arch::asm;

use super::local::CpuLocal;
use crate::context::{Context, Found, state, transition};
use crate::host::{InterruptFlag, Tracking};

/// The interrupt flag of RFLAGS, by STI and CLI.
#[derive(Debug)]
pub struct Rflags;

impl InterruptFlag for Rflags {
    #[inline(always)]
    fn on() {
        // SAFETY: the crossing's state says that interrupts may be on. Not `nomem`: memory accesses stay on their side.
        unsafe { asm!("sti", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn off() {
        // SAFETY: turning interrupts off is always sound.
        unsafe { asm!("cli", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn is_on() -> bool {
        super::cpu::rflags() & super::regs::flags::IF != 0
    }
}

/// Context tracking in [`CpuLocal::context`].
#[derive(Debug)]
pub struct PerCpuContext;

/// A transition of this CPU's word, in one instruction. The word before is returned.
#[inline(always)]
fn add(delta: u32) -> u32 {
    let before: u32;
    // SAFETY: GS is this CPU's, and the word is only ever changed atomically.
    unsafe {
        asm!("lock xadd gs:[{}], {:e}", const CpuLocal::CONTEXT, inlateout(reg) delta => before, options(nostack));
    }
    before
}

#[inline(always)]
fn move_to(from: Context, to: Context) -> bool {
    let before = add(transition(from, to));
    if state(before) as u32 == from as u32 {
        return true;
    }
    repair(state(before), from);
    false
}

/// The transition was made from `found` and not from `from`: adds the difference, so that the word is where it was to
/// go.
#[cold]
#[inline(never)]
fn repair(found: Context, from: Context) {
    add((from as u32).wrapping_sub(found as u32));
}

impl Tracking for PerCpuContext {
    type Saved = Found;

    #[inline(always)]
    fn user_to_kernel() -> bool {
        move_to(Context::User, Context::Kernel)
    }
    #[inline(always)]
    fn kernel_to_user() -> bool {
        move_to(Context::Kernel, Context::User)
    }
    #[inline(always)]
    fn kernel_to_idle() -> bool {
        move_to(Context::Kernel, Context::Idle)
    }
    #[inline(always)]
    fn idle_to_kernel() -> bool {
        move_to(Context::Idle, Context::Kernel)
    }
    #[inline(always)]
    fn kernel_to_guest() -> bool {
        move_to(Context::Kernel, Context::Guest)
    }
    #[inline(always)]
    fn guest_to_kernel() -> bool {
        move_to(Context::Guest, Context::Kernel)
    }
    #[inline(always)]
    fn interrupt_enter() -> Found {
        CpuLocal::this().context.interrupt()
    }
    #[inline(always)]
    fn hit_kernel(saved: Found) -> bool {
        !saved.context().is_quiescent()
    }
    #[inline(always)]
    fn interrupt_exit(saved: Found, _interrupts_on: bool) {
        CpuLocal::this().context.restore(saved);
    }
    #[inline(always)]
    fn nmi_enter() -> Found {
        CpuLocal::this().context.interrupt()
    }
    #[inline(always)]
    fn nmi_exit(saved: Found) {
        CpuLocal::this().context.restore(saved);
    }
    #[inline(always)]
    fn in_kernel() -> bool {
        let word: u32;
        // One instruction: between two, with interrupts on, the task may move to another CPU, and would read the word of the
        // one that it left, which may be in user mode by then.
        // SAFETY: GS is this CPU's.
        unsafe {
            asm!("mov {:e}, gs:[{}]", out(reg) word, const CpuLocal::CONTEXT, options(nostack, preserves_flags, readonly));
        }
        state(word) == Context::Kernel
    }
}
