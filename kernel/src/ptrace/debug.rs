//! The debug registers: four addresses that the CPU watches for a task, and what it says when one is hit.
//!
//! They are the task's only in user memory: whatever is put there through PTRACE_POKEUSER is checked, so that a breakpoint
//! can never hit the kernel's own code or data. The kernel may touch watched memory in a program's name; the CPU then traps
//! in the kernel, which goes on: the program did not do it.
//!
//! A switch loads them only between tasks of which one has some armed: one test of [`SwitchWork`].

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::cpu::{rdmsr, wrmsr};
use portcullis::x86_64::regs::flags;

use crate::errno::{Errno, Result};
use crate::sched::thread::SwitchWork;
use crate::signal;
use crate::signal::{SIGTRAP, SigInfo};
use crate::task::signals::info::{TRAP_BRKPT, TRAP_HWBKPT, TRAP_TRACE};
use crate::task::trace_state::debug_registers::{ADDRESSES, DR6_QUIET};
use crate::task::{Task, current};

/// DR6: which address was hit.
const HITS: u64 = 0xf;
/// DR6: a single step.
const STEP: u64 = 1 << 14;
/// The MSR that says what TF steps to (SDM volume 4, table 2-2).
const DEBUGCTL: u32 = 0x1d9;
/// DEBUGCTL: TF steps to the next branch instead of the next instruction.
const BRANCHES: u64 = 1 << 1;

/// PTRACE_POKEUSER of DR`n` of a stopped task.
pub(super) fn set(task: &Task, n: usize, value: u64) -> Result<()> {
    let registers = &task.trace.debug;
    match n {
        0..ADDRESSES => registers.set_address(n, value)?,
        6 => registers.status.store(value ^ DR6_QUIET, Relaxed),
        7 => {
            registers.set_control(value)?;
            registers.written.store(value, Relaxed);
        }
        // There are no DR4 and DR5.
        _ => return Err(Errno::EIO),
    }
    task.set_switch_work(SwitchWork::DEBUG_REGISTERS, registers.is_armed());
    Ok(())
}

/// Exec: the new program is not watched.
pub fn reset_current() {
    let task = current();
    let registers = &task.trace.debug;
    if registers.is_armed() {
        let _irqs = crate::machine::sync::irqs_off();
        // SAFETY: nothing is watched from here on.
        unsafe { asm!("mov dr7, {}", in(reg) 0u64, options(nostack, preserves_flags)) };
        task.set_switch_work(SwitchWork::DEBUG_REGISTERS, false);
        registers.reset();
    } else {
        registers.reset();
    }
}

/// The part of a switch that is due if one of the two tasks has debug registers armed or is stepped from branch to branch.
#[cold]
pub fn switch(prev: &Task, next: &Task) {
    let (old, new) = (&prev.trace.debug, &next.trace.debug);
    if old.is_armed() || new.is_armed() {
        // SAFETY: the addresses are user memory, as `set` has checked; nothing is watched while they change.
        unsafe {
            asm!("mov dr7, {}", in(reg) 0u64, options(nostack, preserves_flags));
            if new.is_armed() {
                let address = |n: usize| new.addresses[n].load(Relaxed);
                asm!("mov dr0, {}", in(reg) address(0), options(nostack, preserves_flags));
                asm!("mov dr1, {}", in(reg) address(1), options(nostack, preserves_flags));
                asm!("mov dr2, {}", in(reg) address(2), options(nostack, preserves_flags));
                asm!("mov dr3, {}", in(reg) address(3), options(nostack, preserves_flags));
                asm!("mov dr7, {}", in(reg) new.control.load(Relaxed), options(nostack, preserves_flags));
            }
        }
    }
    let (was, is) = (prev.has_switch_work(SwitchWork::BLOCK_STEP), next.has_switch_work(SwitchWork::BLOCK_STEP));
    if was != is {
        set_debugctl_branches(is);
    }
}

fn set_debugctl_branches(on: bool) {
    // SAFETY: every 64-bit CPU has the register; the bit concerns code that runs with TF only.
    unsafe {
        let value = rdmsr(DEBUGCTL);
        let value = if on { value | BRANCHES } else { value & !BRANCHES };
        wrmsr(DEBUGCTL, value);
    }
}

/// Whether a task's single steps go from branch to branch. The task is stopped, or current.
pub(super) fn set_block_step(task: &Task, on: bool) {
    if task.has_switch_work(SwitchWork::BLOCK_STEP) == on {
        return;
    }
    let _irqs = crate::machine::sync::irqs_off();
    task.set_switch_work(SwitchWork::BLOCK_STEP, on);
    if core::ptr::eq(task, current()) {
        set_debugctl_branches(on);
    }
}

/// A debug exception hit the kernel, which touched what the program watches: the CPU has taken DEBUGCTL's flag down (SDM volume 3,
/// "Single-Stepping on Branches"), and the program's step goes on to the next branch all the same. Interrupts off.
pub fn after_kernel_exception() {
    if current().has_switch_work(SwitchWork::BLOCK_STEP) {
        set_debugctl_branches(true);
    }
}

/// A debug exception in user mode: a step, a breakpoint, or ICEBP. `why` is DR6 with the bits up that are.
pub fn user_exception(regs: &mut UserRegs, why: u64) {
    let task = current();
    let registers = &task.trace.debug;
    // The CPU has taken the flag down.
    set_block_step(task, false);
    let stepped = why & STEP != 0;
    let mut status = why & STEP;
    for n in 0..ADDRESSES {
        let Some(executes) = registers.enabled(n) else {
            continue;
        };
        // A step and a breakpoint at the next instruction: the latter comes again, alone.
        if why & 1 << n == 0 || executes && stepped {
            continue;
        }
        status |= 1 << n;
        if executes {
            // It is a fault: the instruction has not run, and is to run now.
            regs.set_rflags(regs.rflags() | flags::RF);
        }
    }
    registers.status.store(status, Relaxed);
    let is_icebp = why == 0;
    if status == 0 && !is_icebp {
        // What another task left.
        return;
    }
    let code = if stepped {
        TRAP_TRACE
    } else if status & HITS != 0 {
        TRAP_HWBKPT
    } else {
        TRAP_BRKPT
    };
    signal::exception::set_fault(portcullis::x86_64::Exception::DB, 0);
    signal::force_fault(SigInfo::fault(SIGTRAP, code, regs.rip));
}
