//! The system call under way, as those see it who judge or report it: filters, audit, trace points, signals.

use portcullis::x86_64::UserRegs;

use super::{Task, current};

/// `AUDIT_ARCH_X86_64`: EM_X86_64, 64-bit, little-endian.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`: EM_386, little-endian.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// Which ABI the call under way came in by (`AUDIT_ARCH_*`). It is the door that says so, never the registers: a 64-bit
/// program may use the 32-bit doors, and a child of such a call may not.
#[inline]
pub fn arch() -> u32 {
    arch_of(current())
}

/// The same for another task.
#[inline]
fn arch_of(task: &Task) -> u32 {
    if task.in_compat_call() && cfg!(not(portcullis_ablate = "call-arch")) {
        AUDIT_ARCH_I386
    } else {
        AUDIT_ARCH_X86_64
    }
}

/// Its number, as the table of that ABI takes it.
pub fn number(regs: &UserRegs) -> i32 {
    regs.orig_rax as i32
}

/// Its six arguments.
pub fn arguments(regs: &UserRegs) -> [u64; 6] {
    arguments_of(regs, current())
}

/// The same for another task, whose registers these are.
pub fn arguments_of(regs: &UserRegs, task: &Task) -> [u64; 6] {
    if arch_of(task) == AUDIT_ARCH_I386 {
        [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|register| register as u32 as u64)
    } else {
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
    }
}

/// Puts the registers back as they were before the call: what a handler sees of a call that is not made.
pub fn roll_back(regs: &mut UserRegs) {
    regs.rax = regs.orig_rax;
}
