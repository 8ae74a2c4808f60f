//! Exceptions, interrupts, NMIs and a task's first way out: the functions of `kernel/entry/common.c` that Linux calls.
//!
//! Linux's C stands between a function that enters and the one that exits, so the state of the crossing is suspended at the
//! end of the first and taken up again at the start of the second. What the second must know (`irqentry_state_t`, a struct
//! of one byte) goes through that C in a register: as an integer here, since on i386 rustc would look for a struct on the
//! stack. Only the lowest byte of the argument is C's.

use portcullis::machine::Registers;
use portcullis::{Arrived, Event, InSyscall, Interrupted, Leaving, NmiContext, Syscall};

use crate::current::task;
use crate::regs::PtRegs;
use crate::tracking::IrqState;
use crate::{Linux, annotate, version};

/// User mode was left by an exception that Linux handles by itself.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn irqentry_enter_from_user_mode(regs: &mut PtRegs) {
    // SAFETY: Linux's assembly saved the registers; user mode was just left.
    unsafe { Arrived::<Linux, Event>::enter_from_user_mode(regs) }.suspend();
    version::note_event_from_user(task());
    annotate::end();
}

/// User mode was left, by whatever it was.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn enter_from_user_mode(regs: &mut PtRegs) {
    // SAFETY: as above.
    unsafe { Arrived::<Linux, Event>::enter_from_user_mode(regs) }.suspend();
    annotate::end();
}

/// The way out for what came in by `irqentry_enter_from_user_mode`.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn irqentry_exit_to_user_mode(regs: &mut PtRegs) {
    annotate::begin();
    // SAFETY: interrupts are off, the context is KERNEL; Linux's C has left the state of its entry.
    unsafe { leave(regs) };
}

/// The way out for what came in by an exception or interrupt.
///
/// # Safety
/// As [`Leaving::assume`].
#[inline(always)]
unsafe fn leave(regs: &mut PtRegs) {
    version::before_event_exit(task());
    // SAFETY: the caller's.
    let leaving = unsafe { Leaving::<Linux, Event>::assume(regs) };
    let settled = leaving.exit_to_user_mode_prepare();
    version::note_event_done(task());
    settled.exit_to_user_mode().suspend();
}

/// A system call is done: also where a new task starts (`ret_from_fork`).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn syscall_exit_to_user_mode(regs: &mut PtRegs) {
    annotate::begin();
    // SAFETY: interrupts are on, the context is KERNEL, on the thread stack; there is no other state of this crossing.
    let made = unsafe { InSyscall::<Linux, Syscall>::assume(regs) };
    made.finish().exit_to_user_mode_prepare().exit_to_user_mode().suspend();
}

/// An interrupt or exception, from user mode or the kernel.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn irqentry_enter(regs: &mut PtRegs) -> u8 {
    let saved = if regs.from_user() {
        // SAFETY: as above.
        unsafe { Arrived::<Linux, Event>::enter_from_user_mode(regs) }.suspend();
        version::note_event_from_user(task());
        IrqState(0)
    } else {
        // SAFETY: the kernel was hit, interrupts are off, the registers are saved.
        let (hit, saved) = unsafe { Interrupted::<Linux>::enter_from_kernel(regs) };
        hit.suspend();
        saved
    };
    annotate::end();
    saved.0
}

/// The interrupt or exception is handled.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn irqentry_exit(regs: &mut PtRegs, state: u32) {
    annotate::begin();
    if regs.from_user() {
        // SAFETY: interrupts are off, the context is KERNEL; Linux's C has left the state of its entry.
        unsafe { leave(regs) };
    } else {
        // SAFETY: as above; the kernel was hit.
        let interrupted = unsafe { Interrupted::<Linux>::assume(regs) };
        interrupted.exit_to_kernel(IrqState(state as u8));
    }
}

/// An NMI, machine check or debug exception that may have hit anything.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn irqentry_nmi_enter(regs: &mut PtRegs) -> u8 {
    // SAFETY: interrupts are off, the registers are saved.
    let (hit, saved) = unsafe { NmiContext::<Linux>::enter_from_kernel(regs) };
    hit.suspend();
    annotate::end();
    saved.0
}

/// It is handled.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinstr.text")]
unsafe extern "C" fn irqentry_nmi_exit(regs: &mut PtRegs, state: u32) {
    annotate::begin();
    // SAFETY: interrupts are off; Linux's C has left the state of its entry.
    let nmi = unsafe { NmiContext::<Linux>::assume(regs) };
    nmi.exit_to_kernel(IrqState(state as u8));
}
