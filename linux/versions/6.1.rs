//! What only Linux 6.1 has, or has otherwise than later versions.

use crate::current::PerCpu;
use crate::offsets;
use crate::regs::PtRegs;

unsafe extern "C" {
    pub static current_task: PerCpu;
    #[link_name = "__preempt_count"]
    pub static preempt_count: PerCpu;
    pub static vdso_image_32: u8;
    #[cfg(CONFIG_CPU_SUP_AMD)]
    fn amd_clear_divider();
    #[cfg(all(CONFIG_IA32_EMULATION, CONFIG_X86_LOCAL_APIC))]
    static apic: *const u8;
}

/// Where the current task's address is in what [`current_task`] names.
pub const CURRENT_TASK: usize = 0;
/// Where the count is in what [`preempt_count`] names.
pub const PREEMPT_COUNT: usize = 0;

/// The directive for an alternative's feature.
macro_rules! feature_directive {
    () => {
        ".word"
    };
}
/// What `do_syscall_64` returns: here the assembly tests whether SYSRET fits.
#[cfg(CONFIG_X86_64)]
pub type SyscallResult = ();

/// Nothing: see [`SyscallResult`].
#[cfg(CONFIG_X86_64)]
#[inline(always)]
pub fn syscall_result(_regs: &PtRegs) -> SyscallResult {}

/// Whether a 32-bit call may return by SYSRET or SYSEXIT as far as the machine goes.
#[inline(always)]
pub fn may_return_fast(_regs: &PtRegs) -> bool {
    #[cfg(not(CONFIG_X86_64))]
    return cpu_has!(offsets::FEATURE_SEP);
    #[cfg(CONFIG_X86_64)]
    true
}

/// The word of the local APIC's in-service register that has interrupt 0x80.
#[cfg(all(CONFIG_IA32_EMULATION, CONFIG_X86_LOCAL_APIC))]
#[inline(always)]
pub fn apic_isr_of_vector_80() -> u32 {
    // SAFETY: Linux's driver of the APIC, whose `read` takes a register and gives its value.
    unsafe {
        let read: extern "C" fn(u32) -> u32 = *apic.add(offsets::APIC_READ).cast();
        read(offsets::APIC_ISR_OF_VECTOR_80 as u32)
    }
}

/// Some AMD CPUs leave a division's operands where the next one's user can find them: a call that is patched in on those.
#[inline(always)]
pub fn clear_divider() {
    #[cfg(CONFIG_CPU_SUP_AMD)]
    // SAFETY: NOPs, or a call of a function that takes and returns nothing.
    unsafe {
        core::arch::asm!(
            "661:",
            patchable_nop!(),
            "662:",
            alternative_entry!(),
            ".pushsection .altinstr_replacement, \"ax\"",
            "663: call {clear}",
            "664:",
            ".popsection",
            feature = const offsets::BUG_DIV0,
            clear = sym amd_clear_divider,
            clobber_abi("C"),
        );
    }
}

pub use crate::before_7_2::*;

/// On the way out, with interrupts off, when no more work can come.
#[inline(always)]
pub fn exit_to_user_mode_prepare() {
    #[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
    choose_offset();
}
