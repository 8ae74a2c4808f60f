use core::arch::asm;

use super::*;

/// Gives this thread a CPU whose task has its thread stack's top at `stack_top`. User mode has no GS of its own in Linux.
///
/// `CpuLocal::switch_to` loads SS and the TSS, which takes a kernel.
pub fn pretend_to_be_a_cpu(stack_top: u64) {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_SET_GS: u64 = 0x1001;
    let local = Box::leak(Box::new(CpuLocal::new()));
    local.this = local;
    local.thread_stack.store(stack_top, Relaxed);
    let result: i64;
    // SAFETY: nothing else in this process uses GS; the structure is never freed.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_SET_GS, in("rsi") local, out("rcx") _, out("r11") _);
    }
    assert_eq!(result, 0, "arch_prctl");
}
