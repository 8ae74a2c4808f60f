//! What Linux 6.1 and 6.12 have in common, and 7.2 has not: policy without rseq's part in it, and a random stack offset that
//! is chosen on the way out.

use crate::current::Task;
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
use crate::kstack::randomize_kstack_offset;
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
use crate::offsets;
use crate::regs::PtRegs;

/// The section of alternatives.
macro_rules! alternatives_section {
    () => {
        ".pushsection .altinstructions, \"a\""
    };
}
/// objtool's note at an entry of a table of patches.
#[allow(unused_macros, reason = "only static keys use it")]
macro_rules! data_special {
    () => {
        ""
    };
}
/// objtool's note that instrumentation is allowed from the label on.
#[cfg(CONFIG_NOINSTR_VALIDATION)]
macro_rules! instrumentation_begins {
    ($label:literal) => {
        concat!(".pushsection .discard.instr_begin; .long ", $label, " - .; .popsection")
    };
}
/// objtool's note that instrumentation is allowed up to the label.
#[cfg(CONFIG_NOINSTR_VALIDATION)]
macro_rules! instrumentation_ends {
    ($label:literal) => {
        concat!(".pushsection .discard.instr_end; .long ", $label, " - .; .popsection")
    };
}

unsafe extern "C" {
    fn schedule();
    fn arch_do_signal_or_restart(regs: *mut PtRegs);
    #[cfg(CONFIG_DEBUG_RSEQ)]
    fn rseq_syscall(regs: *mut PtRegs);
}

/// NEED_RESCHED, NEED_RESCHED_LAZY.
pub fn reschedule(_work: usize) {
    // SAFETY: interrupts are on, in ordinary kernel code of a task.
    unsafe { schedule() }
}

/// SIGPENDING, NOTIFY_SIGNAL.
pub fn do_signal_or_restart(regs: &mut PtRegs) {
    // SAFETY: the registers of the crossing, on the way to user mode with interrupts on.
    unsafe { arch_do_signal_or_restart(regs) }
}

/// After a system call: a restartable sequence must not make one.
#[inline(always)]
pub fn rseq_syscall_check(_regs: &mut PtRegs) {
    #[cfg(CONFIG_DEBUG_RSEQ)]
    // SAFETY: the registers of the call.
    unsafe {
        rseq_syscall(_regs);
    }
}

/// A filter is attached: what it says, -1 to skip the call.
#[inline(always)]
pub fn secure_computing() -> i32 {
    #[cfg(CONFIG_SECCOMP)]
    {
        unsafe extern "C" {
            fn __secure_computing(data: *const core::ffi::c_void) -> i32;
        }
        // SAFETY: null: the call under way, whose registers are the task's.
        unsafe { __secure_computing(core::ptr::null()) }
    }
    #[cfg(not(CONFIG_SECCOMP))]
    0
}

/// Before the last look at the work of an exception or interrupt: nothing.
#[inline(always)]
pub fn before_event_exit(_task: Task) {}

/// After an exception or interrupt came from user mode: nothing.
#[inline(always)]
pub fn note_event_from_user(_task: Task) {}

/// When nothing is left of the work of an exception or interrupt: nothing.
#[inline(always)]
pub fn note_event_done(_task: Task) {}

/// Before an interrupt goes back to kernel code with interrupts on: nothing.
#[inline(always)]
pub fn before_kernel_exit() {}

/// The last of a crossing that may be traced: nothing.
#[inline(always)]
pub fn leaving() {}

/// `prctl(PR_SET_SYSCALL_USER_DISPATCH)`: the mode with the range inverted is not there.
pub const INCLUSIVE_USER_DISPATCH: bool = false;

/// Rseq's part is a hook of the loop: nothing after it.
#[inline(always)]
pub fn rseq_restart(_regs: *mut PtRegs) -> Result<(), portcullis::Again> {
    Ok(())
}

/// A signal ends the run of a virtual machine's guest: KVM is told.
///
/// # Safety
/// `vcpu` is KVM's own.
#[cfg(portcullis_guests)]
pub unsafe fn signal_ends_guest_run(vcpu: *mut core::ffi::c_void) {
    unsafe extern "C" {
        fn portcullis_kvm_handle_signal_exit(vcpu: *mut core::ffi::c_void);
    }
    // SAFETY: the caller's.
    unsafe { portcullis_kvm_handle_signal_exit(vcpu) }
}

/// Mixes the time-stamp counter into the number for the next system call.
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
#[inline(always)]
pub fn choose_offset() {
    #[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET_DEFAULT)]
    let on = static_branch_likely!(randomize_kstack_offset);
    #[cfg(not(CONFIG_RANDOMIZE_KSTACK_OFFSET_DEFAULT))]
    let on = static_branch_unlikely!(randomize_kstack_offset);
    if on {
        let low: u32;
        // SAFETY: reads the counter.
        unsafe { core::arch::asm!("rdtsc", out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags)) };
        // SAFETY: a u32 of the task's own.
        unsafe {
            let offset: *mut u32 = crate::current::task().member(offsets::TASK_KSTACK_OFFSET);
            *offset = (*offset).rotate_right(5) ^ low;
        }
    }
}

/// A naked function's assembly, with what [`load_stack_offset`] refers to.
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
macro_rules! stack_offset_operands {
    ($($assembly:tt)*) => {
        core::arch::naked_asm!(
            $($assembly)*
            current = sym crate::version::current_task,
            current_at = const crate::version::CURRENT_TASK,
            offset = const crate::offsets::TASK_KSTACK_OFFSET,
        )
    };
}
/// Puts the random offset of the stack into `eax`, in a function of [`exported`](crate::kstack).
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, CONFIG_X86_64))]
macro_rules! load_stack_offset {
    () => {
        concat!("mov rax, gs:[{current} + {current_at}]", "\n", "mov eax, [rax + {offset}]")
    };
}
/// Puts the random offset of the stack into `ecx`, in a function of [`exported`](crate::kstack).
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, not(CONFIG_X86_64)))]
macro_rules! load_stack_offset {
    () => {
        concat!("mov ecx, fs:[{current} + {current_at}]", "\n", "mov ecx, [ecx + {offset}]")
    };
}
