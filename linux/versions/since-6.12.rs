//! What Linux 6.12 and 7.2 have in common, and 6.1 has not.

use crate::current::Task;
use crate::regs::PtRegs;
#[cfg(CONFIG_X86_64)]
use crate::regs::flags;
#[cfg(CONFIG_X86_64)]
use crate::syscall::seldom;
#[cfg(CONFIG_X86_64)]
use crate::version::FIVE_LEVELS;
use crate::{offsets, user_dispatch};

/// What `do_syscall_64` returns: whether SYSRET enters user mode as IRET would.
#[cfg(CONFIG_X86_64)]
pub type SyscallResult = bool;

/// Whether SYSRET gives user mode these registers: RCX and R11 are what it takes the address and the flags from, the segments
/// are STAR's, the address is the user's on every CPU (a #GP of SYSRET is taken in the kernel), and neither RF nor TF is set
/// (the first is lost, the second traps one instruction early). Xen's guests have no SYSRET.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
pub fn syscall_result(regs: &PtRegs) -> SyscallResult {
    // One after the other: the compiler would look at two at once, with more instructions.
    let then = || {
        // SAFETY: nothing.
        unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
        true
    };
    let fits = may_return_fast(regs)
        && regs.cx == regs.ip
        && then()
        && regs.r11 == regs.flags
        && then()
        && regs.cs as usize == offsets::USER_CS
        && then()
        && regs.ss as usize == offsets::USER_DS
        && then()
        && regs.ip < task_size_max()
        && then()
        && regs.flags & (flags::RF | flags::TF) == 0;
    if !fits {
        seldom();
    }
    fits
}

/// The first address that is not the user's.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
fn task_size_max() -> usize {
    if FIVE_LEVELS {
        let size: usize;
        // SAFETY: loads a constant; which one is patched.
        unsafe {
            core::arch::asm!(
                "661: movabs {size}, {four_levels}",
                "662:",
                alternative_entry!(),
                ".pushsection .altinstr_replacement, \"ax\"",
                "663: movabs {size}, {five_levels}",
                "664:",
                ".popsection",
                feature = const offsets::FEATURE_LA57,
                size = out(reg) size,
                four_levels = const offsets::TASK_SIZE_4_LEVELS,
                five_levels = const offsets::TASK_SIZE_5_LEVELS,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        size
    } else {
        offsets::TASK_SIZE_4_LEVELS
    }
}

/// Whether a call may return by SYSRET or SYSEXIT as far as the machine goes.
#[inline(always)]
pub fn may_return_fast(_regs: &PtRegs) -> bool {
    #[cfg(CONFIG_XEN_PV)]
    return !cpu_has!(offsets::FEATURE_XENPV);
    #[cfg(not(CONFIG_XEN_PV))]
    true
}

/// The word of the local APIC's in-service register that has interrupt 0x80.
#[cfg(all(CONFIG_IA32_EMULATION, CONFIG_X86_LOCAL_APIC))]
#[inline(always)]
pub fn apic_isr_of_vector_80() -> u32 {
    unsafe extern "C" {
        fn __SCT__apic_call_read(register: u32) -> u32;
    }
    // SAFETY: the trampoline of the static call to the APIC's driver; objtool lists the call for patching by the key's name.
    unsafe {
        core::arch::asm!(
            ".pushsection .discard.addressable, \"aw\"",
            concat!(alternative_pointer!(), " __SCK__apic_call_read"),
            ".popsection",
        );
        __SCT__apic_call_read(offsets::APIC_ISR_OF_VECTOR_80 as u32)
    }
}

/// Some AMD CPUs leave a division's operands where the next one's user can find them: a division that is patched in on those.
#[inline(always)]
pub fn clear_divider() {
    #[cfg(CONFIG_CPU_SUP_AMD)]
    // SAFETY: nothing, or 0 divided by 1.
    unsafe {
        core::arch::asm!(
            "661: .skip 664f - 663f, 0x90",
            "662:",
            alternative_entry!(),
            ".pushsection .altinstr_replacement, \"ax\"",
            "663: xor eax, eax",
            "xor edx, edx",
            "mov ecx, 1",
            "div ecx",
            "664:",
            ".popsection",
            feature = const offsets::BUG_DIV0,
            out("eax") _,
            out("edx") _,
            out("ecx") _,
            options(nomem, nostack),
        );
    }
}

/// With FRED the CPU takes the stack of the next event from a register of its own: it is written where it was another task's.
#[inline(always)]
pub fn update_fred_rsp0() {
    #[cfg(CONFIG_X86_FRED)]
    if cpu_has!(offsets::FEATURE_FRED) {
        unsafe extern "C" {
            fn portcullis_fred_update_rsp0();
        }
        // SAFETY: interrupts are off, the current task goes to user mode.
        unsafe { portcullis_fred_update_rsp0() }
    }
}

/// What a tracer reads and writes of a task's user dispatch (`struct ptrace_sud_config`, Linux 6.4).
#[repr(C)]
struct Config {
    mode: u64,
    selector: u64,
    start: u64,
    length: u64,
}

unsafe extern "C" {
    fn portcullis_copy_to_user(to: usize, from: *const Config, size: usize) -> bool;
    fn portcullis_copy_from_user(to: *mut Config, from: usize, size: usize) -> bool;
}

/// `ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall_user_dispatch_get_config(task: *mut u8, size: usize, data: usize) -> i32 {
    if size != size_of::<Config>() {
        return -user_dispatch::EINVAL;
    }
    // SAFETY: ptrace's tracee, which is stopped.
    let task = unsafe { Task::from_raw(task) };
    let config = Config {
        mode: (task.syscall_work() & offsets::WORK_USER_DISPATCH != 0) as u64,
        selector: task.dispatch_word(offsets::TASK_DISPATCH_SELECTOR) as u64,
        start: task.dispatch_word(offsets::TASK_DISPATCH_OFFSET) as u64,
        length: task.dispatch_word(offsets::TASK_DISPATCH_LEN) as u64,
    };
    // SAFETY: copies as many bytes as there are, in the tracer's context.
    if unsafe { portcullis_copy_to_user(data, &config, size) } { 0 } else { -user_dispatch::EFAULT }
}

/// `ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall_user_dispatch_set_config(task: *mut u8, size: usize, data: usize) -> i32 {
    if size != size_of::<Config>() {
        return -user_dispatch::EINVAL;
    }
    let mut config = Config { mode: 0, selector: 0, start: 0, length: 0 };
    // SAFETY: copies as many bytes as there are, in the tracer's context.
    if !unsafe { portcullis_copy_from_user(&mut config, data, size) } {
        return -user_dispatch::EFAULT;
    }
    // SAFETY: ptrace's tracee, which is stopped.
    let task = unsafe { Task::from_raw(task) };
    user_dispatch::set(
        task,
        config.mode as usize,
        config.start as usize,
        config.length as usize,
        config.selector as usize,
    )
}
