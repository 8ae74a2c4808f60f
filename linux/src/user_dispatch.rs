//! Syscall user dispatch: how Linux reads the selector and raises the signal. What is decided is in
//! [`portcullis_linux_abi::user_dispatch`].

use core::arch::asm;

use portcullis_linux_abi::user_dispatch::{AllowedRange, Decision, by_selector};

use crate::current::{Task, task};
use crate::regs::PtRegs;
use crate::{offsets, version};

unsafe extern "C" {
    fn portcullis_is_vdso_sigreturn(regs: *mut PtRegs) -> bool;
    fn portcullis_force_exit_sig(segv: bool);
    fn portcullis_user_dispatch(regs: *mut PtRegs);
    fn portcullis_selector_ok(selector: usize) -> bool;
    fn portcullis_arm_user_dispatch(task: *mut u8, on: bool);
    fn __get_user_nocheck_1();
}

/// Reads a byte of user memory whose address was checked when it was given. `None` if it is not there.
fn user_byte(address: usize) -> Option<u8> {
    let (error, byte): (usize, usize);
    // SAFETY: Linux's own function; it takes the address in the accumulator, gives the byte in DX and changes nothing else.
    unsafe {
        #[cfg(CONFIG_X86_64)]
        asm!("call {get}", get = sym __get_user_nocheck_1, inout("rax") address => error, out("rdx") byte);
        #[cfg(not(CONFIG_X86_64))]
        asm!("call {get}", get = sym __get_user_nocheck_1, inout("eax") address => error, out("edx") byte);
    }
    (error as i32 == 0).then_some(byte as u8)
}

/// Whether the system call was turned into a signal.
pub fn dispatch(regs: &mut PtRegs) -> bool {
    let task = task();
    let range = AllowedRange {
        start: task.dispatch_word(offsets::TASK_DISPATCH_OFFSET),
        length: task.dispatch_word(offsets::TASK_DISPATCH_LEN),
    };
    // The vDSO's way out of a signal handler must stay open.
    // SAFETY: only looks at the registers.
    if range.contains(regs.ip) || unsafe { portcullis_is_vdso_sigreturn(regs) } {
        return false;
    }
    let selector = task.dispatch_word(offsets::TASK_DISPATCH_SELECTOR);
    let verdict = by_selector((selector != 0).then(|| user_byte(selector)));
    match verdict {
        Decision::Allow => return false,
        Decision::Dispatch => {
            task.set_on_dispatch(true);
            // SAFETY: the registers are those of the call under way.
            unsafe { portcullis_user_dispatch(regs) };
        }
        // SAFETY: raises a signal for the current task.
        Decision::BadSelectorAddress | Decision::BadSelector => unsafe {
            portcullis_force_exit_sig(verdict == Decision::BadSelectorAddress);
        },
    }
    true
}

pub const EINVAL: i32 = 22;
pub const EFAULT: i32 = 14;

/// How `prctl(PR_SET_SYSCALL_USER_DISPATCH)` and `ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG)` set it.
pub fn set(task: Task, mode: usize, start: usize, length: usize, selector: usize) -> i32 {
    const OFF: usize = 0;
    const EXCLUSIVE_ON: usize = 1;
    const INCLUSIVE_ON: usize = 2;
    let range = AllowedRange { start, length };
    let range = match mode {
        OFF if start != 0 || length != 0 || selector != 0 => return -EINVAL,
        OFF => range,
        EXCLUSIVE_ON if range.is_valid() => range,
        INCLUSIVE_ON if version::INCLUSIVE_USER_DISPATCH => match range.inverted() {
            Some(inverted) => inverted,
            None => return -EINVAL,
        },
        _ => return -EINVAL,
    };
    // SAFETY: only compares addresses.
    if mode != OFF && selector != 0 && !unsafe { portcullis_selector_ok(selector) } {
        return -EFAULT;
    }
    task.set_dispatch_word(offsets::TASK_DISPATCH_SELECTOR, selector);
    task.set_dispatch_word(offsets::TASK_DISPATCH_OFFSET, range.start);
    task.set_dispatch_word(offsets::TASK_DISPATCH_LEN, range.length);
    task.set_on_dispatch(false);
    // SAFETY: sets or clears the task's flag; another task than the current one is stopped for its tracer, which we are.
    unsafe { portcullis_arm_user_dispatch(task.as_raw(), mode != OFF) };
    0
}

/// `prctl(PR_SET_SYSCALL_USER_DISPATCH)`.
#[unsafe(no_mangle)]
extern "C" fn set_syscall_user_dispatch(mode: usize, start: usize, length: usize, selector: usize) -> i32 {
    set(task(), mode, start, length, selector)
}
