//! What becomes of a page fault: the page, a call through the vsyscall page, a signal, or the end of the kernel.

use core::sync::atomic::Ordering::Relaxed;

use portcullis::machine::Registers;
use portcullis::{InKernel, Interrupted};
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::calls::vsyscall;
use crate::machine::gate::Gate;
use crate::machine::sync;
use crate::memory::USER_END;
use crate::memory::access::Access;
use crate::memory::address_space::current_mm;
use crate::memory::fault::{ERROR_FETCH, ERROR_PRESENT, ERROR_USER, ERROR_WRITE, FaultSignal, SEGV_ACCERR};
use crate::signal::exception::{force_fault, force_page_fault};
use crate::task;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::SIGKILL;

/// A page fault in user mode: resolves it, or raises the signal.
///
/// An access to a page that is there can fault as the supervisor's: QEMU's translator reads and writes the stack of a user's
/// far return and far call so, and SMAP refuses it. There is nothing to resolve, and the instruction would fault for ever.
pub fn from_user(at: &mut InKernel<'_, Gate>, addr: u64, error: u64) {
    let refused = || error & ERROR_WRITE == 0 || Cr4::read().contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION);
    if error & (ERROR_PRESENT | ERROR_FETCH | ERROR_USER) == ERROR_PRESENT && refused() {
        return raise(at, FaultSignal::segv(SEGV_ACCERR, addr), error);
    }
    match current_mm().fault_here(addr, error) {
        Ok(()) => count(),
        Err(signal) if signal.code == SEGV_ACCERR && error & (ERROR_FETCH | ERROR_PRESENT) == ERROR_FETCH => {
            // Linux brings in a page that may be read before it looks at whether it may be executed: the error code that the
            // program sees says that it is there.
            match current_mm().fault(addr, Access::Read) {
                Ok(()) => count(),
                Err(signal) => raise(at, signal, error),
            }
        }
        Err(signal) => raise(at, signal, error),
    }
}

/// A fault was served.
#[inline]
fn count() {
    // Only the task itself counts here, so no atomic addition is needed.
    let faults = &task::current().usage.minor_faults;
    faults.store(faults.load(Relaxed) + 1, Relaxed);
}

#[cold]
fn raise(at: &mut InKernel<'_, Gate>, signal: FaultSignal, error: u64) {
    if error & ERROR_FETCH != 0 && vsyscall::contains(signal.addr) {
        vsyscall::call(at);
    } else if signal.signo == SIGKILL {
        kill_for_memory();
    } else {
        force_page_fault(
            SigInfo::fault(signal.signo, signal.code, signal.addr).with_key(signal.key),
            signal.addr,
            error,
        );
    }
}

/// A page fault in kernel mode. True when the interrupted code may go on: at the instruction if it was one of the
/// routines that touch user memory and the page could be had, else at its fixup. False: a bug of the kernel.
pub fn from_kernel(at: &mut Interrupted<'_, Gate>, addr: u64, error: u64) -> bool {
    let Some(fixup) = at.fixup() else {
        return false;
    };
    // With locks held there is no faulting in: that may sleep.
    let may_resolve = addr < USER_END && at.saved().interrupts_on() && sync::preempt_count() == 0;
    if !may_resolve || !resolve(addr, error) {
        at.continue_at(fixup);
    }
    true
}

/// Resolves a fault of the routines that touch user memory, with interrupts on: a file may let us sleep. Where there is no
/// memory for it the task is killed, as for a fault of its own: its address was a good one.
fn resolve(addr: u64, error: u64) -> bool {
    interrupts::enable();
    let result = current_mm().fault_here(addr, error);
    if result.as_ref().is_err_and(|signal| signal.signo == SIGKILL) {
        kill_for_memory();
    }
    interrupts::disable();
    if result.is_ok() {
        count();
    }
    result.is_ok()
}

#[cold]
fn kill_for_memory() {
    log::warn!("out of memory: task {} is killed", task::current().tid());
    force_fault(SigInfo::kernel(SIGKILL));
}
