//! Which signal an exception becomes.
//!
//! The table is Linux's (6.1, `arch/x86/kernel/traps.c`): programs see `si_code` and `si_addr`, and `trapno`, `err` and
//! `cr2` in the handler's frame.

use portcullis::x86_64::{Exception, UserRegs};

use crate::signal::{fpstate, send};
use crate::task;
use crate::task::signals::info::*;
use crate::task::signals::set::*;

pub use crate::task::signals::state::Fault;

/// A vector of the 80387.
const COPROCESSOR_OVERRUN: u8 = 9;
/// A vector that means nothing.
const SPURIOUS: u8 = 15;
/// #PF error code: the page is present.
const PF_PRESENT: u64 = 1;
/// #PF error code: from user mode.
const PF_USER: u64 = 4;
/// The end of user addresses.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// Sends the current task the signal for an exception that it caused in user mode.
///
/// `error` is the error code. Interrupts on, context KERNEL. Page faults and debug exceptions are others' (`memory::fault`,
/// `ptrace::debug`).
pub fn force_exception(vector: u8, error: u64, regs: &mut UserRegs) {
    let ip = regs.rip;
    // Signals without a code of their own come from the kernel and say nothing about the address.
    let info = match vector {
        Exception::DE => SigInfo::fault(SIGFPE, FPE_INTDIV, ip),
        Exception::BP => SigInfo::kernel(SIGTRAP),
        Exception::UD => SigInfo::fault(SIGILL, ILL_ILLOPN, ip),
        COPROCESSOR_OVERRUN => SigInfo::kernel(SIGFPE),
        Exception::NP | Exception::SS => SigInfo::kernel(SIGBUS),
        Exception::MF | Exception::XM => {
            let state = fpstate::exceptions();
            let (raised, masked) = if vector == Exception::MF {
                (state.x87_status, state.x87_control)
            } else {
                (state.mxcsr, state.mxcsr >> 7)
            };
            match float_code(raised & !masked) {
                Some(code) => SigInfo::fault(SIGFPE, code, ip),
                // Nothing is left of it: the instruction is tried again.
                None => return set_fault(vector, 0),
            }
        }
        Exception::AC => SigInfo::fault(SIGBUS, BUS_ADRALN, 0),
        SPURIOUS => return,
        Exception::MC => SigInfo::kernel(SIGBUS),
        // #OF, #BR, #TS, #GP, and those that user mode should never see.
        _ => SigInfo::kernel(SIGSEGV),
    };
    set_fault(vector, error);
    force_fault(info);
}

/// Sends the current task the signal for a page fault that it caused in user mode.
///
/// The frame tells nothing about kernel memory: a fault there always looks like one on a present page.
pub fn force_page_fault(info: SigInfo, addr: u64, error: u64) {
    let hidden = if addr >= TASK_SIZE { PF_PRESENT } else { 0 };
    force_page_fault_of(info, addr, error | hidden | PF_USER);
}

/// As [`force_page_fault`], with this error code as it is.
pub fn force_page_fault_of(info: SigInfo, addr: u64, error: u64) {
    task::current().signals.lock().fault = Fault { trapno: Exception::PF.into(), error, cr2: addr };
    force_fault(info);
}

/// Sends the current task a signal that it caused itself and that cannot wait. If it is blocked or ignored, its action is
/// set to the default and it is unblocked: the task would only run into it again.
pub fn force_fault(info: SigInfo) {
    send::force(info);
}

/// As [`force_fault`], but no handler is asked: the process ends.
pub fn force_fatal(info: SigInfo) {
    send::force_fatal(info);
}

/// Keeps `cr2` of the last page fault.
pub(crate) fn set_fault(vector: u8, error: u64) {
    let mut signals = task::current().signals.lock();
    signals.fault.trapno = vector.into();
    signals.fault.error = error;
}

/// The code for the unmasked floating-point exceptions, in the order of Linux. The bits are the same in the x87 status
/// word and in MXCSR.
fn float_code(unmasked: u32) -> Option<i32> {
    [(0x01, FPE_FLTINV), (0x04, FPE_FLTDIV), (0x08, FPE_FLTOVF), (0x12, FPE_FLTUND), (0x20, FPE_FLTRES)]
        .into_iter()
        .find_map(|(bits, code)| (unmasked & bits != 0).then_some(code))
}
