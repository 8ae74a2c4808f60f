//! Single-stepping: the trap flag in the tracee's RFLAGS, and whose it is.
//!
//! The flag belongs to the program, which may set it itself. When the tracer sets it, that is noted ([`FORCED`]): the
//! program's registers do not show it, and it is taken out when the stepping ends. A step over a system call traps at the
//! call's exit, before the next instruction; a step into a signal handler stops at its first instruction.

use portcullis::InKernel;
use portcullis::work::SyscallWork;
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::{Exception, UserRegs};

use crate::machine::gate::Gate;
use crate::ptrace::registers::Stopped;
use crate::ptrace::{debug, stop};
use crate::sched::segments::code::Code;
use crate::signal;
use crate::signal::{SIGTRAP, SigInfo};
use crate::task::Task;
use crate::task::signals::info::TRAP_BRKPT;
use crate::task::trace_state::{FORCED, STEPPING};

/// PTRACE_SINGLESTEP, and with `block` PTRACE_SINGLEBLOCK: the stopped task goes on for one instruction, or up to the next
/// branch.
pub(super) fn enable(stopped: &mut Stopped<'_>, block: bool) {
    let task = stopped.task();
    let by_us = force(task, stopped.regs_mut());
    debug::set_block_step(task, by_us && block);
}

/// Sets TF. Says whether it is the tracer's.
fn force(task: &Task, regs: &mut UserRegs) -> bool {
    let step = &task.trace.step;
    if step.has(STEPPING) {
        regs.set_rflags(regs.rflags() | flags::TF);
    }
    step.set(STEPPING);
    task.work.arm(SyscallWork::EXIT_TRAP);
    let was_set = regs.rflags() & flags::TF != 0;
    regs.set_rflags(regs.rflags() | flags::TF);
    if sets_trap_flag(task, regs) {
        // What the instruction leaves is the program's.
        step.clear(FORCED);
        return false;
    }
    if was_set {
        return step.has(FORCED);
    }
    step.set(FORCED);
    true
}

/// The stopped task goes on without steps.
pub(super) fn disable(stopped: &mut Stopped<'_>) {
    if stop_stepping(stopped.task()) {
        clear_trap_flag(stopped.regs_mut());
    }
}

/// Says whether TF is to be taken out.
#[inline]
fn stop_stepping(task: &Task) -> bool {
    debug::set_block_step(task, false);
    let step = &task.trace.step;
    if step.clear(STEPPING) {
        task.work.disarm(SyscallWork::EXIT_TRAP);
    }
    step.clear(FORCED)
}

fn clear_trap_flag(regs: &mut UserRegs) {
    regs.set_rflags(regs.rflags() & !flags::TF);
}

/// For a new task: what it inherits of its parent's registers is not to have the tracer's TF.
pub fn not_inherited(parent: &Task, regs: &mut UserRegs) {
    if parent.trace.step.is_forced() {
        clear_trap_flag(regs);
    }
}

/// A signal handler is about to be entered: the frame does not show the tracer's TF. Says whether the task was stepped.
#[inline]
pub fn leave_for_handler(task: &Task, regs: &mut UserRegs) -> bool {
    let stepping = task.trace.step.has(STEPPING);
    if stepping && stop_stepping(task) {
        clear_trap_flag(regs);
    }
    stepping
}

/// The task was stepped into a handler, of which no instruction has run.
#[cold]
pub fn report_handler(at: &mut InKernel<'_, Gate>) {
    stop::trap(at);
}

/// A step over a system call ends at the call's exit.
#[cold]
pub fn report_syscall(regs: &UserRegs) {
    signal::exception::set_fault(Exception::DB, 0);
    signal::force_fault(SigInfo::fault(SIGTRAP, TRAP_BRKPT, regs.rip));
}

/// Whether the instruction at RIP loads the flags (POPF, IRET), so that TF is the program's afterwards.
fn sets_trap_flag(task: &Task, regs: &UserRegs) -> bool {
    Code::at(task, regs).and_then(|code| Some(code.instruction()?.loads_flags())).unwrap_or(false)
}
