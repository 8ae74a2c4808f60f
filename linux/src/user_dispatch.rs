//! Syscall user dispatch: how Linux reads the selector and raises the signal. What is decided is in
//! [`portcullis_linux_abi::user_dispatch`].

use core::arch::asm;

use portcullis_linux_abi::user_dispatch::{AllowedRange, Decision, by_selector};

use crate::current::task;
use crate::offsets;
use crate::regs::PtRegs;

unsafe extern "C" {
    fn portcullis_is_vdso_sigreturn(regs: *mut PtRegs) -> bool;
    fn portcullis_force_exit_sig(segv: bool);
    fn portcullis_user_dispatch(regs: *mut PtRegs);
    fn portcullis_selector_ok(selector: usize) -> bool;
    fn portcullis_arm_user_dispatch(on: bool);
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

const EINVAL: i32 = 22;
const EFAULT: i32 = 14;

/// `prctl(PR_SET_SYSCALL_USER_DISPATCH)`.
#[unsafe(no_mangle)]
extern "C" fn set_syscall_user_dispatch(mode: usize, start: usize, length: usize, selector: usize) -> i32 {
    const OFF: usize = 0;
    const ON: usize = 1;
    match mode {
        OFF if start != 0 || length != 0 || selector != 0 => return -EINVAL,
        OFF => {}
        ON if !(AllowedRange { start, length }).is_valid() => return -EINVAL,
        // SAFETY: only compares addresses.
        ON if selector != 0 && !unsafe { portcullis_selector_ok(selector) } => return -EFAULT,
        ON => {}
        _ => return -EINVAL,
    }
    let task = task();
    task.set_dispatch_word(offsets::TASK_DISPATCH_SELECTOR, selector);
    task.set_dispatch_word(offsets::TASK_DISPATCH_OFFSET, start);
    task.set_dispatch_word(offsets::TASK_DISPATCH_LEN, length);
    task.set_on_dispatch(false);
    // SAFETY: sets or clears the current task's flag.
    unsafe { portcullis_arm_user_dispatch(mode == ON) };
    0
}
