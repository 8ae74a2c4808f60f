//! Whether the CPU keeps kernel data in buffers that user mode can sample, and VERW clears them.
//!
//! The CPU says so by CPUID and IA32_ARCH_CAPABILITIES, except for one family of AMD's. Sources: SDM volume 4, table 2-2
//! (IA32_ARCH_CAPABILITIES, IA32_TSX_CTRL); Intel's guidance on MDS, TAA, processor MMIO stale data and RFDS; AMD's "Technical
//! guidance for mitigating transient scheduler attacks".
//!
//! | what leaks | there, unless | VERW clears it where | |
//! | --- | --- | --- | --- |
//! | MDS | MDS_NO | MD_CLEAR | |
//! | TAA | TAA_NO, or TSX is absent or off | MD_CLEAR | also on CPUs with MDS_NO |
//! | MMIO stale data | FBSDP_NO, PSDP_NO and SBDR_SSDP_NO | FB_CLEAR | user mode is assumed to reach device memory |
//! | RFDS | RFDS_NO | RFDS_CLEAR | |
//! | TSA (AMD) | TSA_SQ_NO and TSA_L1_NO | VERW_CLEAR, or family 19h | on hardware the microcode clears without saying so; without it VERW does no harm |
//!
//! Otherwise VERW is left out: it is not needed, or no microcode says that it clears anything.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::cpu::{msr, rdmsr};

/// What the CPU reports.
#[derive(Clone, Copy, Default)]
pub(super) struct Enumeration {
    /// CPUID 0: the vendor is AMD.
    amd: bool,
    /// CPUID 1, EAX.
    signature: u32,
    /// CPUID 7, EBX.
    seven_ebx: u32,
    /// CPUID 7, EDX.
    seven_edx: u32,
    /// IA32_ARCH_CAPABILITIES, or 0.
    capabilities: u64,
    /// IA32_TSX_CTRL, or 0.
    tsx_ctrl: u64,
    /// CPUID 8000_0021, EAX.
    extended_eax: u32,
    /// CPUID 8000_0021, ECX.
    extended_ecx: u32,
}

// CPUID 7, EBX: restricted transactional memory.
const RTM: u32 = 1 << 11;
// CPUID 7, EDX.
const MD_CLEAR: u32 = 1 << 10;
const HAS_ARCH_CAPABILITIES: u32 = 1 << 29;

/// Bits of IA32_ARCH_CAPABILITIES.
mod capability {
    pub const MDS_NO: u64 = 1 << 5;
    pub const TSX_CTRL: u64 = 1 << 7;
    pub const TAA_NO: u64 = 1 << 8;
    pub const SBDR_SSDP_NO: u64 = 1 << 13;
    pub const FBSDP_NO: u64 = 1 << 14;
    pub const PSDP_NO: u64 = 1 << 15;
    pub const FB_CLEAR: u64 = 1 << 17;
    pub const RFDS_NO: u64 = 1 << 27;
    pub const RFDS_CLEAR: u64 = 1 << 28;
}

/// IA32_TSX_CTRL: transactions abort before they begin.
const RTM_DISABLE: u64 = 1 << 0;

// CPUID 8000_0021, EAX.
const VERW_CLEAR: u32 = 1 << 5;
// CPUID 8000_0021, ECX.
const TSA_SQ_NO: u32 = 1 << 1;
const TSA_L1_NO: u32 = 1 << 2;
/// The family of Zen 3 and Zen 4, whose schedulers leak.
const ZEN_3_AND_4: u32 = 0x19;

impl Enumeration {
    /// Asks this CPU, in kernel mode.
    pub(super) fn read() -> Self {
        let zero = __cpuid(0);
        let mut found = Enumeration {
            amd: (zero.ebx, zero.edx, zero.ecx) == (word(b"Auth"), word(b"enti"), word(b"cAMD")),
            signature: __cpuid(1).eax,
            ..Enumeration::default()
        };
        if zero.eax >= 7 {
            let seven = __cpuid_count(7, 0);
            (found.seven_ebx, found.seven_edx) = (seven.ebx, seven.edx);
        }
        if __cpuid(0x8000_0000).eax >= 0x8000_0021 {
            let extended = __cpuid(0x8000_0021);
            (found.extended_eax, found.extended_ecx) = (extended.eax, extended.ecx);
        }
        if found.seven_edx & HAS_ARCH_CAPABILITIES != 0 {
            // SAFETY: kernel mode, and the CPU reports the register.
            found.capabilities = unsafe { rdmsr(msr::ARCH_CAPABILITIES) };
        }
        if found.can(capability::TSX_CTRL) {
            // SAFETY: kernel mode, and the capability reports the register.
            found.tsx_ctrl = unsafe { rdmsr(msr::TSX_CTRL) };
        }
        found
    }

    /// Whether VERW is needed before user mode.
    pub(super) const fn needs_verw(&self) -> bool {
        let md_clear = self.seven_edx & MD_CLEAR != 0;
        let mds = !self.can(capability::MDS_NO);
        let mmio =
            !(self.can(capability::FBSDP_NO) && self.can(capability::PSDP_NO) && self.can(capability::SBDR_SSDP_NO));
        md_clear && (mds || self.has_taa())
            || self.can(capability::FB_CLEAR) && mmio
            || self.can(capability::RFDS_CLEAR) && !self.can(capability::RFDS_NO)
            || self.has_tsa() && (self.extended_eax & VERW_CLEAR != 0 || self.family() == ZEN_3_AND_4)
    }

    /// A transaction that aborts leaks. CPUID may hide transactions that work; IA32_TSX_CTRL tells whether they do.
    const fn has_taa(&self) -> bool {
        let hidden = self.can(capability::TSX_CTRL) && self.tsx_ctrl & RTM_DISABLE == 0;
        !self.can(capability::TAA_NO) && (self.seven_ebx & RTM != 0 || hidden)
    }

    const fn has_tsa(&self) -> bool {
        self.amd && !(self.extended_ecx & TSA_SQ_NO != 0 && self.extended_ecx & TSA_L1_NO != 0)
    }

    const fn can(&self, capability: u64) -> bool {
        self.capabilities & capability != 0
    }

    /// The family, with the extended family (APM volume 3, CPUID 1).
    const fn family(&self) -> u32 {
        match self.signature >> 8 & 0xf {
            0xf => 0xf + (self.signature >> 20 & 0xff),
            family => family,
        }
    }
}

/// Four letters of the vendor's name as a register holds them.
const fn word(letters: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*letters)
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/buffers.rs"]
mod tests;
