//! The privileged instructions and registers that the doors and their tables need.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

use super::buffers::Enumeration;
use super::regs::flags;
use crate::machine::InterruptFlag;

/// The interrupt flag of RFLAGS, by STI and CLI.
#[derive(Debug)]
pub struct Rflags;

// SAFETY: STI and CLI.
unsafe impl InterruptFlag for Rflags {
    #[inline(always)]
    unsafe fn on() {
        // SAFETY: the caller's. Not `nomem`, so that memory accesses stay on their side.
        unsafe { asm!("sti", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn off() {
        // SAFETY: turning interrupts off is sound anywhere. Not `nomem`, as above.
        unsafe { asm!("cli", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn is_on() -> bool {
        rflags() & flags::IF != 0
    }
}

/// Model-specific registers (SDM volume 4; APM volume 2, appendix A).
#[allow(missing_docs, reason = "the registers by their names")]
pub mod msr {
    macro_rules! registers {
        ($($name:ident = $number:literal)*) => { $(pub const $name: u32 = $number;)* };
    }

    registers! {
        ARCH_CAPABILITIES = 0x10a TSX_CTRL = 0x122 SYSENTER_CS = 0x174 SYSENTER_ESP = 0x175 SYSENTER_EIP = 0x176
        EFER = 0xc000_0080 STAR = 0xc000_0081 LSTAR = 0xc000_0082 CSTAR = 0xc000_0083 SFMASK = 0xc000_0084
        FRED_RSP0 = 0x1cc FRED_RSP1 = 0x1cd FRED_RSP2 = 0x1ce FRED_RSP3 = 0x1cf FRED_STKLVLS = 0x1d0 FRED_CONFIG = 0x1d4
        FS_BASE = 0xc000_0100 GS_BASE = 0xc000_0101 KERNEL_GS_BASE = 0xc000_0102
    }
}

/// Reads a model-specific register.
///
/// # Safety
/// Kernel mode, and the CPU has the register.
#[inline]
pub unsafe fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    (high as u64) << 32 | low as u64
}

/// Writes a model-specific register.
///
/// # Safety
/// Kernel mode, the CPU has the register, and the rest of the kernel is prepared for what the value does.
#[inline]
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

/// The flags register.
#[inline(always)]
pub fn rflags() -> u64 {
    let flags: u64;
    // SAFETY: reads the flags through the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) }
    flags
}

macro_rules! control_registers {
    ($($(#[$attribute:meta])* $vis:vis fn $name:ident: $register:literal;)*) => {$(
        $(#[$attribute])*
        $vis fn $name() -> u64 {
            let value: u64;
            // SAFETY: reading has no effect; the library calls this in kernel mode.
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nostack, preserves_flags, nomem)) }
            value
        }
    )*};
}

control_registers! {
    /// What is protected.
    fn cr0: "cr0";
    /// The address of the last page fault.
    #[inline(always)]
    pub(super) fn cr2: "cr2";
    /// The page table, and flags.
    pub(super) fn cr3: "cr3";
    /// Features in use.
    fn cr4: "cr4";
    /// What is watched.
    #[inline(always)]
    pub(super) fn dr7: "dr7";
}

/// # Safety
/// Kernel mode; what expects the old value of CR2 must not run.
pub(super) unsafe fn set_cr2(address: u64) {
    // SAFETY: CR2 has no effect on the CPU.
    unsafe { asm!("mov cr2, {}", in(reg) address, options(nostack, preserves_flags, nomem)) }
}

/// # Safety
/// Kernel mode, and the kernel is ready for what is watched.
#[inline(always)]
pub(super) unsafe fn set_dr7(control: u64) {
    // SAFETY: the caller's. Not `nomem`, so that accesses stay on their side.
    unsafe { asm!("mov dr7, {}", in(reg) control, options(nostack, preserves_flags)) }
}

/// Reads DR6, why the last debug exception came, and resets it, which the CPU does not (SDM volume 3, 17.2.3).
#[inline(always)]
pub(super) fn take_dr6() -> u64 {
    /// Bits 4 to 11 and 16 to 31 are 1 when nothing happened (SDM volume 3, figure 17-1).
    const CLEAN: u64 = 0xffff_0ff0;
    let why: u64;
    // SAFETY: the doors run in kernel mode.
    unsafe {
        asm!("mov {}, dr6", out(reg) why, options(nostack, preserves_flags, nomem));
        asm!("mov dr6, {}", in(reg) CLEAN, options(nostack, preserves_flags, nomem));
    }
    why ^ CLEAN
}

/// Which of the features that the library uses the CPU has.
#[derive(Clone, Copy)]
pub(super) struct Features {
    smep: bool,
    pub(super) smap: bool,
    mce: bool,
    umip: bool,
    pub(super) fsgsbase: bool,
    pub(super) nx: bool,
    /// 57-bit addresses are in use.
    pub(super) la57: bool,
    pge: bool,
    /// The CPU's buffers leak kernel data to user mode (MDS and the like), and VERW clears them.
    pub(super) clear_buffers: bool,
}

impl Features {
    /// Asks the CPU (SDM volume 2, CPUID), in kernel mode: CR4 and MSRs are read, too.
    pub(super) fn detect() -> Self {
        let standard = __cpuid_count(0, 0).eax;
        let (seven_ebx, seven_ecx) = if standard >= 7 {
            let seven = __cpuid_count(7, 0);
            (seven.ebx, seven.ecx)
        } else {
            (0, 0)
        };
        let one_edx = __cpuid_count(1, 0).edx;
        let extended = __cpuid_count(0x8000_0001, 0).edx;
        Features {
            fsgsbase: seven_ebx & 1 << 0 != 0,
            smep: seven_ebx & 1 << 7 != 0,
            smap: seven_ebx & 1 << 20 != 0,
            umip: seven_ecx & 1 << 2 != 0,
            nx: extended & 1 << 20 != 0,
            mce: one_edx & 1 << 7 != 0,
            pge: one_edx & 1 << 13 != 0,
            la57: cr4() & CR4_LA57 != 0,
            clear_buffers: Enumeration::read().needs_verw(),
        }
    }
}

const CR4_MCE: u64 = 1 << 6;
const CR4_PGE: u64 = 1 << 7;
const CR4_UMIP: u64 = 1 << 11;
const CR4_LA57: u64 = 1 << 12;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const CR4_FRED: u64 = 1 << 32;
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;

/// Whether the kernel's accesses to user memory fault unless AC is set.
pub(super) fn smap_is_on() -> bool {
    cr4() & CR4_SMAP != 0
}

/// Sets WP and AM in CR0 and, if the CPU has them, SMEP, SMAP, UMIP, FSGSBASE, PGE and MCE (without which a machine check shuts the
/// CPU down) in CR4.
///
/// # Safety
/// Kernel mode; the kernel's pages are supervisor pages, and it accesses user pages between STAC and CLAC.
pub(super) unsafe fn protect(features: Features) {
    // SAFETY: the caller's; CPUID shows the features.
    unsafe {
        asm!("mov cr0, {}", in(reg) cr0() | CR0_WP | CR0_AM, options(nostack, preserves_flags));
        let mut value = cr4();
        for (has, bit) in [
            (features.mce, CR4_MCE),
            (features.pge, CR4_PGE),
            (features.umip, CR4_UMIP),
            (features.fsgsbase, CR4_FSGSBASE),
            (features.smep, CR4_SMEP),
            (features.smap, CR4_SMAP),
        ] {
            if has {
                value |= bit;
            }
        }
        asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags));
    }
}

/// Turns FRED on: from now on the IDT is not used.
///
/// # Safety
/// Kernel mode, interrupts off, after `fred::prepare` and `delivery::set_thread_stack`.
pub(super) unsafe fn enable_fred() {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr4, {}", in(reg) cr4() | CR4_FRED, options(nostack, preserves_flags)) };
}

/// Runs `write` with write protection off, so that it may write to read-only pages of the kernel.
///
/// # Safety
/// Kernel mode, interrupts off.
pub(super) unsafe fn without_write_protection(write: impl FnOnce()) {
    // SAFETY: the caller's; CR0 is put back before anything else runs on this CPU.
    unsafe {
        let cr0 = cr0();
        asm!("mov cr0, {}", in(reg) cr0 & !CR0_WP, options(nostack, preserves_flags));
        write();
        asm!("mov cr0, {}", in(reg) cr0, options(nostack, preserves_flags));
    }
    // CPUID serializes: what was fetched before is fetched again.
    let _ = __cpuid_count(0, 0);
}
