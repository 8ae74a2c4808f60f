//! The few privileged instructions that the doors and their tables need.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

use super::buffers::Enumeration;

/// Model-specific registers (SDM volume 4; APM volume 2, appendix A).
#[allow(missing_docs, reason = "the registers by their names")]
pub mod msr {
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const TSX_CTRL: u32 = 0x122;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
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
    // SAFETY: reads the flags by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) }
    flags
}

/// CR2: the address of the last page fault.
#[inline(always)]
pub(super) fn cr2() -> u64 {
    let address: u64;
    // SAFETY: the doors run in kernel mode.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nostack, preserves_flags, nomem)) }
    address
}

/// CR3: the page table, and flags.
pub(super) fn cr3() -> u64 {
    let value: u64;
    // SAFETY: called in kernel mode only.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nostack, preserves_flags, nomem)) }
    value
}

/// # Safety
/// Kernel mode; only to put back what was there.
pub(super) unsafe fn set_cr2(address: u64) {
    // SAFETY: CR2 steers nothing.
    unsafe { core::arch::asm!("mov cr2, {}", in(reg) address, options(nostack, preserves_flags, nomem)) }
}

/// Takes DR6: why the last debug exception came. The register is clean afterwards (SDM volume 3, 17.2.3: the CPU only
/// ever sets its bits).
#[inline(always)]
pub(super) fn take_dr6() -> u64 {
    /// Bits 4 to 10, 12 to 31 and 16 (RTM) read as 1 (SDM volume 3, figure 17-1).
    const CLEAN: u64 = 0xffff_0ff0;
    let why: u64;
    // SAFETY: the doors run in kernel mode; CR4.DE semantics do not matter for DR6.
    unsafe {
        asm!("mov {}, dr6", out(reg) why, options(nostack, preserves_flags, nomem));
        asm!("mov dr6, {}", in(reg) CLEAN, options(nostack, preserves_flags, nomem));
    }
    // Bits that read as 1 when nothing happened come out as 0.
    why ^ CLEAN
}

/// What the CPU has, of what the doors use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// Machine-check exceptions.
    pub mce: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
    /// RDFSBASE and its siblings.
    pub fsgsbase: bool,
    /// Execute-disable.
    pub nx: bool,
    /// 57-bit addresses are in use.
    pub la57: bool,
    /// Global pages.
    pub pge: bool,
    /// The CPU's buffers leak the kernel's data to user mode (MDS and its kin), and VERW clears them: see
    /// [`buffers`](super::buffers).
    pub clear_buffers: bool,
}

impl Features {
    /// Asks the CPU (SDM volume 2, CPUID). Kernel mode only, as CR4 says whether 57-bit addresses are in use.
    pub fn detect() -> Self {
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
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;

fn cr4() -> u64 {
    let value: u64;
    // SAFETY: kernel mode, by `detect`'s documentation.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nostack, preserves_flags, nomem)) }
    value
}

/// Whether the kernel's accesses to user memory fault unless AC is set.
pub(super) fn smap_is_on() -> bool {
    cr4() & CR4_SMAP != 0
}

/// Turns on what protects the kernel: WP and AM in CR0; SMEP, SMAP, UMIP, FSGSBASE, global pages and machine checks, which
/// would shut the CPU down otherwise, in CR4 where the CPU has them.
///
/// # Safety
/// Kernel mode; the kernel's pages are supervisor pages and it touches user pages between STAC and CLAC only.
pub(super) unsafe fn protect(features: Features) {
    // SAFETY: the caller's; each bit is set only where CPUID shows it.
    unsafe {
        let mut cr0: u64;
        asm!("mov {}, cr0", out(reg) cr0, options(nostack, preserves_flags));
        cr0 |= CR0_WP | CR0_AM;
        asm!("mov cr0, {}", in(reg) cr0, options(nostack, preserves_flags));
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

/// Runs `write` with write protection off, so that it may write to read-only pages of the kernel.
///
/// # Safety
/// Kernel mode, interrupts off.
pub(super) unsafe fn without_write_protection(write: impl FnOnce()) {
    // SAFETY: the caller's; CR0 is put back before anything else runs on this CPU.
    unsafe {
        let cr0: u64;
        asm!("mov {}, cr0", out(reg) cr0, options(nostack, preserves_flags));
        asm!("mov cr0, {}", in(reg) cr0 & !CR0_WP, options(nostack, preserves_flags));
        write();
        asm!("mov cr0, {}", in(reg) cr0, options(nostack, preserves_flags));
    }
    // A serialising instruction: instructions fetched before are fetched anew.
    let _ = __cpuid_count(0, 0);
}
