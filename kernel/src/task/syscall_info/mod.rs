//! The system call under way, for those who judge, report or restart it: tracers, filters, audit, signals.
//!
//! Only [`SyscallInfo`](state::SyscallInfo) says whose table the call is of. The door sets it and clears it. Where a call leaves
//! by another door than it came by (a child's first way out, a program of the other width), or where a tracer has changed
//! it, [`AFTER_CALL`] is raised, so that it is cleared before user mode is entered.

pub mod state;

use core::sync::atomic::Ordering::Relaxed;

use portcullis::work::ExitWork;
use portcullis::x86_64::UserRegs;

use crate::memory::address_space::current_mm;
use crate::memory::width::Width;
use crate::task::syscall_info::state::{AS_REGISTERS, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, CALL, EVENT};
use crate::task::{Task, current};

/// The highest error number.
const MAX_ERRNO: i64 = 4095;

/// Exit work of this kernel, once: the state of the call has to be cleared, which its door does not do.
pub const AFTER_CALL: ExitWork = ExitWork::from_bits(1 << 16);
/// Exit work of this kernel, in the loop: a 32-bit call returns into the vDSO, which has been moved.
pub const VDSO_MOVED: ExitWork = ExitWork::from_bits(1 << 17);

#[inline]
fn width_of(task: &Task) -> Width {
    if task.syscall_info.is_compat() { Width::Bits32 } else { Width::Bits64 }
}

/// A child's first way out is that of the call that made it.
pub fn inherit(child: &Task) {
    if current().syscall_info.is_compat() {
        child.syscall_info.set_compat(true);
        child.raise(AFTER_CALL);
    }
}

/// exec: the call ends as the one of the new program's table, which this gives the number of. Tracers see that.
pub fn becomes_exec_of(width: Width) -> u64 {
    const NR_EXECVE: u64 = linux_raw_sys::general::__NR_execve as u64;
    const NR_EXECVE_32: u64 = 11;
    let task = current();
    match width {
        Width::Bits64 => {
            task.syscall_info.set_compat(false);
            NR_EXECVE
        }
        Width::Bits32 => {
            task.syscall_info.set_compat(true);
            task.raise(AFTER_CALL);
            NR_EXECVE_32
        }
    }
}

/// A 32-bit tracer has written the number of the call that the task is stopped in.
pub fn poke(task: &Task) {
    task.syscall_info.poked.store(true, Relaxed);
    task.raise(AFTER_CALL);
}

/// A tracer is about to write the number of a stopped task with these registers, which then no longer tell how it came in.
pub fn keep_origin(task: &Task, regs: &UserRegs) {
    let origin = &task.syscall_info.origin;
    if origin.load(Relaxed) == AS_REGISTERS {
        origin.store(if names_no_call(regs) { EVENT } else { CALL }, Relaxed);
        task.raise(AFTER_CALL);
    }
}

/// The hook of [`AFTER_CALL`]: the last thing before user mode, interrupts off.
pub fn leave() {
    let task = current();
    task.work.take(AFTER_CALL);
    task.syscall_info.compat.store(false, Relaxed);
    task.syscall_info.poked.store(false, Relaxed);
    task.syscall_info.origin.store(AS_REGISTERS, Relaxed);
}

/// The vDSO has been moved by the current task: a 32-bit call that it is making returns to the new place.
pub fn vdso_moved(old_landing_pad: u64) {
    let task = current();
    if task.syscall_info.is_compat() {
        task.syscall_info.old_landing_pad.store(old_landing_pad, Relaxed);
        task.raise(VDSO_MOVED);
    }
}

/// The hook of [`VDSO_MOVED`].
pub fn follow_vdso(regs: &mut UserRegs) {
    if regs.rip == current().syscall_info.old_landing_pad.load(Relaxed) {
        regs.rip = current_mm().int80_landing_pad();
    }
}

/// Which ABI the call under way came in by (`AUDIT_ARCH_*`). It is the door that says so, never the registers: a 64-bit
/// program may use the 32-bit doors.
#[inline]
pub fn arch() -> u32 {
    arch_of(current())
}

/// The same for another task.
#[inline]
pub fn arch_of(task: &Task) -> u32 {
    if width_of(task) == Width::Bits32 { AUDIT_ARCH_I386 } else { AUDIT_ARCH_X86_64 }
}

/// Whether there is none: the current task, with these registers, has come into the kernel by an interrupt or an exception. So it
/// looks after a signal frame was taken back, too.
pub fn is_event(regs: &UserRegs) -> bool {
    match current().syscall_info.origin.load(Relaxed) {
        AS_REGISTERS => names_no_call(regs),
        origin => origin == EVENT,
    }
}

fn names_no_call(regs: &UserRegs) -> bool {
    regs.orig_rax == UserRegs::NO_SYSCALL
}

/// Its number, as the table of that ABI takes it.
pub fn number(regs: &UserRegs) -> i32 {
    regs.orig_rax as i32
}

/// Its six arguments.
pub fn args(regs: &UserRegs) -> [u64; 6] {
    args_of(regs, current())
}

/// The same for another task, whose registers these are. The whole registers: a 64-bit program may have anything in the
/// upper halves of those that it makes a 32-bit call with.
pub fn args_of(regs: &UserRegs, task: &Task) -> [u64; 6] {
    if arch_of(task) == AUDIT_ARCH_I386 {
        [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp]
    } else {
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
    }
}

/// Its result, if that is an error: `-errno`, or an internal code of an interrupted call. The registers are the task's.
pub fn error_of(regs: &UserRegs, task: &Task) -> Option<i64> {
    let result = if task.syscall_info.is_compat() || task.syscall_info.poked.load(Relaxed) {
        i64::from(regs.rax as i32)
    } else {
        regs.rax as i64
    };
    (-MAX_ERRNO..0).contains(&result).then_some(result)
}

/// Puts the registers back as they were before the call: what a handler sees of a call that is not made.
pub fn roll_back(regs: &mut UserRegs) {
    regs.rax = regs.orig_rax;
}
