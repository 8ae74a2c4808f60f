//! Handlers of device interrupts run on a stack of their own, so that thread stacks need no room for them.

use core::arch::naked_asm;
use core::sync::atomic::Ordering::Relaxed;

use super::local::CpuLocal;

/// Runs `handler` on the IRQ stack, with interrupts off. A handler must leave them off ([`InInterrupt`](crate::InInterrupt)); if
/// one turns them on nevertheless, the next interrupt finds the depth raised and stays on the stack in use.
#[inline(always)]
pub(super) fn on_irq_stack<F: FnOnce()>(handler: F) {
    let local = CpuLocal::this();
    let depth = local.irq_depth.load(Relaxed);
    // This CPU's alone, and an interrupt in between restores it: plain stores suffice.
    local.irq_depth.store(depth + 1, Relaxed);
    if depth == 0 {
        let mut handler = Some(handler);
        // SAFETY: `run::<F>` gets a pointer to `handler`, which outlives the call; the IRQ stack is free, as the depth was 0.
        unsafe { call_on_stack((&raw mut handler).cast(), run::<F>, local.irq_stack) }
    } else {
        handler();
    }
    local.irq_depth.store(depth, Relaxed);
}

/// # Safety
/// `handler` points to a `Some` of the closure.
unsafe extern "C" fn run<F: FnOnce()>(handler: *mut ()) {
    // SAFETY: the caller's.
    if let Some(handler) = unsafe { (*handler.cast::<Option<F>>()).take() } {
        handler();
    }
}

/// Calls `function(argument)` with RSP at `stack`. RBP links the frames for backtraces.
#[unsafe(naked)]
unsafe extern "C" fn call_on_stack(argument: *mut (), function: unsafe extern "C" fn(*mut ()), stack: u64) {
    naked_asm!("push rbp; mov rbp, rsp", "mov rsp, rdx", "call rsi", "mov rsp, rbp; pop rbp; ret")
}
