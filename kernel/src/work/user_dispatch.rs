//! Syscall user dispatch: system calls from outside an allowed range of code become SIGSYS (Linux 7.2).
//!
//! For programs that run another system's code in their own process and make its system calls themselves. They turn the
//! dispatch on and off without a system call, by a byte in their memory. What is set is in
//! [`task::user_dispatch`](crate::task::user_dispatch).

use core::sync::atomic::Ordering::Relaxed;

use portcullis::work::SyscallWork;
use portcullis::x86_64::UserRegs;
use portcullis_linux_abi::user_dispatch::{Decision, by_selector};

use crate::fs::vdso;
use crate::memory::address_space::current_mm;
use crate::memory::user;
use crate::signal;
use crate::signal::{SIGSEGV, SIGSYS, SigInfo};
use crate::task::signals::info::SYS_USER_DISPATCH;
use crate::task::{Task, current, syscall_info};
use crate::work::hooks;

/// A new program begins without it; so does a new task.
pub fn reset_for_exec(task: &Task) {
    task.work.disarm(SyscallWork::USER_DISPATCH);
}

/// The hook at entry: true if the call was turned into a signal. First of all, because such a call is none of this
/// kernel's: nobody else may see it.
#[inline(never)]
pub fn at_entry(regs: &mut UserRegs) -> bool {
    let task = current();
    let dispatch = &task.hooks.syscall_dispatch;
    if dispatch.allowed().contains(regs.rip as usize) || is_sigreturn(regs) {
        return false;
    }
    let selector = match dispatch.selector.load(Relaxed) {
        0 => None,
        address => Some(user::read::<u8>(address).ok()),
    };
    // A program that has lost its selector cannot be asked what it meant.
    let fatal = match by_selector(selector) {
        Decision::Allow => return false,
        Decision::Dispatch => None,
        Decision::BadSelector => Some(SIGSYS),
        Decision::BadSelectorAddress => Some(SIGSEGV),
    };
    if let Some(signal) = fatal {
        crate::signal::send::force_exit(SigInfo::kernel(signal));
        return true;
    }
    if dispatch.dispatched.swap(true, Relaxed) {
        hooks::Hook::UserDispatch.violation("twice for one call");
    }
    syscall_info::roll_back(regs);
    signal::force_fault(SigInfo::system_call(
        SYS_USER_DISPATCH,
        0,
        regs.rip,
        syscall_info::number(regs),
        syscall_info::arch(),
    ));
    true
}

/// The return from a signal handler through the vDSO: a handler must be able to return while the selector blocks. Only the
/// 32-bit vDSO has such code; 64-bit programs bring their own and put it into the range.
fn is_sigreturn(regs: &UserRegs) -> bool {
    current().syscall_info.is_compat() && vdso::is_behind_sigreturn_32(current_mm(), regs.rip)
}

/// The hook at exit: true if this call was turned into a signal, so that no other exit work is due.
pub fn at_exit() -> bool {
    current().hooks.syscall_dispatch.dispatched.swap(false, Relaxed)
}
