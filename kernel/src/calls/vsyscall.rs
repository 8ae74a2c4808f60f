//! The vsyscall page: calls at fixed addresses, from before there was a vDSO (Linux 6.1 with `vsyscall=xonly`).
//!
//! Nothing is mapped there. The fetch of the first instruction of one of the three calls faults, and the call is made then;
//! the page can neither be read nor entered elsewhere. So it costs ordinary faults nothing, and is of no use to an attacker.

use linux_raw_sys::general::{__NR_getcpu, __NR_gettimeofday, __NR_time};
use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use crate::calls::{affinity, clock};
use crate::errno::Errno;
use crate::machine::gate::Gate;
use crate::memory::{PAGE_SIZE, USER_END, user};
use crate::signal;
use crate::signal::SigInfo;
use crate::task::wait_status::WaitStatus;
use crate::work::{exit, seccomp};

/// Where the page is, in every program.
pub const ADDRESS: u64 = 0xffff_ffff_ff60_0000;

const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;
const SEGV_MAPERR: i32 = 1;
/// #PF error code: a write from user mode.
const USER_WRITE: u64 = 6;

/// Whether `address` is in the page.
pub fn contains(address: u64) -> bool {
    address & !(PAGE_SIZE - 1) == ADDRESS
}

#[allow(non_upper_case_globals, reason = "system-call numbers are patterns here")]
/// User mode jumped into the page: makes the call that is there, and returns to the caller. Or SIGSEGV.
pub fn call(at: &mut InKernel<'_, Gate>) {
    let regs = *at.saved();
    let entry = regs.rip;
    let number = match entry.wrapping_sub(ADDRESS) {
        0 => __NR_gettimeofday,
        0x400 => __NR_time,
        0x800 => __NR_getcpu,
        _ => return signal::force_fault(SigInfo::kernel(SIGSEGV)),
    };
    let Ok(caller) = user::read::<u64>(regs.rsp) else {
        return signal::force_fault(SigInfo::kernel(SIGSEGV));
    };
    // Where a program's own code would write, and fault.
    let (first, second) = match number {
        __NR_gettimeofday => ((regs.rdi, 16), (regs.rsi, 8)),
        __NR_time => ((regs.rdi, 8), (0, 0)),
        _ => ((regs.rdi, 4), (regs.rsi, 4)),
    };
    for (pointer, size) in [first, second] {
        if pointer > USER_END - size {
            let info = SigInfo::fault(SIGSEGV, SEGV_MAPERR, pointer);
            return signal::force_page_fault_of(info, pointer, USER_WRITE);
        }
    }
    if !is_allowed(at, number, entry) {
        leave(at.regs(), caller);
        return;
    }
    let regs = at.regs();
    let result = match number {
        __NR_gettimeofday => clock::sys_gettimeofday(regs.rdi, regs.rsi),
        __NR_time => clock::sys_time(regs.rdi),
        _ => affinity::sys_getcpu(regs.rdi, regs.rsi),
    };
    match result {
        Err(Errno::EFAULT) => signal::force_fault(SigInfo::kernel(SIGSEGV)),
        Ok(value) => {
            regs.rax = value as u64;
            leave(regs, caller);
        }
        Err(Errno(number)) => {
            regs.rax = (number as u64).wrapping_neg();
            leave(regs, caller);
        }
    }
}

/// The return instruction.
fn leave(regs: &mut UserRegs, caller: u64) {
    regs.rip = caller;
    regs.rsp = regs.rsp.wrapping_add(8);
}

/// Asks the filters, as for the system call. They may answer in its place, but make nothing else of it.
fn is_allowed(at: &mut InKernel<'_, Gate>, number: u32, entry: u64) -> bool {
    let regs = at.regs();
    regs.orig_rax = number.into();
    regs.rax = (Errno::ENOSYS.0 as u64).wrapping_neg();
    let judged = seccomp::secure_computing(at.regs());
    let regs = at.saved();
    if judged.is_ok() && (regs.orig_rax != u64::from(number) || regs.rip != entry) {
        exit::do_group_exit(at, WaitStatus::killed(SIGSYS));
    }
    at.regs().orig_rax = UserRegs::NO_SYSCALL;
    judged.is_ok()
}
