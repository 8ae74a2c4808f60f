//! Whether the CPU keeps data of the kernel's in buffers that user mode can sample, and VERW clears them.
//!
//! The CPU says so itself, by CPUID and IA32_ARCH_CAPABILITIES: there is no list of models here but one family's. Sources: SDM volume 4,
//! table 2-2 (IA32_ARCH_CAPABILITIES, IA32_TSX_CTRL); Intel's guidance on MDS, TAA, processor MMIO stale data and RFDS; AMD's
//! "Technical guidance for mitigating transient scheduler attacks".
//!
//! | what leaks | there, unless | VERW clears it where | |
//! | --- | --- | --- | --- |
//! | MDS | MDS_NO | MD_CLEAR | |
//! | TAA | TAA_NO, or TSX is absent or off | MD_CLEAR | also on CPUs with MDS_NO |
//! | MMIO stale data | FBSDP_NO, PSDP_NO and SBDR_SSDP_NO | FB_CLEAR | whether user mode reaches devices' memory is the kernel's business; that it may is assumed |
//! | RFDS | RFDS_NO | RFDS_CLEAR | |
//! | TSA (AMD) | TSA_SQ_NO and TSA_L1_NO | VERW_CLEAR, or family 19h | outside virtual machines the microcode clears without saying so; without it VERW does no harm |
//!
//! Elsewhere VERW is left out. Where it would be needed and no microcode says that it clears anything, it would not help.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::cpu::{msr, rdmsr};

/// What the CPU says of itself.
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
    /// IA32_ARCH_CAPABILITIES, 0 where there is none.
    capabilities: u64,
    /// IA32_TSX_CTRL, 0 where there is none.
    tsx_ctrl: u64,
    /// CPUID 8000_0021, EAX.
    extended_eax: u32,
    /// CPUID 8000_0021, ECX.
    extended_ecx: u32,
}

/// CPUID 7, EBX: restricted transactional memory.
const RTM: u32 = 1 << 11;
/// CPUID 7, EDX.
const MD_CLEAR: u32 = 1 << 10;
/// CPUID 7, EDX.
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

/// IA32_TSX_CTRL: every transaction aborts before it begins.
const RTM_DISABLE: u64 = 1 << 0;

/// CPUID 8000_0021, EAX.
const VERW_CLEAR: u32 = 1 << 5;
/// CPUID 8000_0021, ECX.
const TSA_SQ_NO: u32 = 1 << 1;
/// CPUID 8000_0021, ECX.
const TSA_L1_NO: u32 = 1 << 2;
/// The family of Zen 3 and Zen 4, whose schedulers leak.
const ZEN_3_AND_4: u32 = 0x19;

impl Enumeration {
    /// Asks this CPU. Kernel mode only.
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
            // SAFETY: kernel mode, and the CPU says that it has the register.
            found.capabilities = unsafe { rdmsr(msr::ARCH_CAPABILITIES) };
        }
        if found.can(capability::TSX_CTRL) {
            // SAFETY: as said by the capability.
            found.tsx_ctrl = unsafe { rdmsr(msr::TSX_CTRL) };
        }
        found
    }

    /// Whether VERW has to stand before user mode.
    pub(super) const fn needs_verw(&self) -> bool {
        let md_clear = self.seven_edx & MD_CLEAR != 0;
        let mds = !self.can(capability::MDS_NO);
        let mmio = !(self.can(capability::FBSDP_NO)
            && self.can(capability::PSDP_NO)
            && self.can(capability::SBDR_SSDP_NO));
        md_clear && (mds || self.has_taa())
            || self.can(capability::FB_CLEAR) && mmio
            || self.can(capability::RFDS_CLEAR) && !self.can(capability::RFDS_NO)
            || self.has_tsa() && (self.extended_eax & VERW_CLEAR != 0 || self.family() == ZEN_3_AND_4)
    }

    /// A transaction that aborts leaks. CPUID may hide transactions that work: only IA32_TSX_CTRL tells that they do not.
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

    /// The family, with what does not fit its four bits (APM volume 3, CPUID 1).
    const fn family(&self) -> u32 {
        match self.signature >> 8 & 0xf {
            0xf => 0xf + (self.signature >> 20 & 0xff),
            family => family,
        }
    }
}

/// Four letters of the vendor's name, as a register holds them.
const fn word(letters: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*letters)
}

#[cfg(test)]
mod tests {
    use super::capability::*;
    use super::*;

    /// An Intel CPU: what CPUID 7 says in EBX and EDX, and its capabilities.
    fn intel(seven_ebx: u32, seven_edx: u32, capabilities: u64) -> Enumeration {
        Enumeration {
            signature: 0x506e3,
            seven_ebx,
            seven_edx,
            capabilities,
            ..Enumeration::default()
        }
    }

    /// An AMD CPU of this family with what CPUID 8000_0021 says in EAX and ECX.
    fn amd(family: u32, extended_eax: u32, extended_ecx: u32) -> Enumeration {
        Enumeration {
            amd: true,
            signature: 0xf00 | (family - 0xf) << 20,
            extended_eax,
            extended_ecx,
            ..Enumeration::default()
        }
    }

    fn needed(cpus: &[Enumeration], expected: bool) {
        for (n, cpu) in cpus.iter().enumerate() {
            assert_eq!(cpu.needs_verw(), expected, "the {n}th");
        }
    }

    const MMIO_NO: u64 = FBSDP_NO | PSDP_NO | SBDR_SSDP_NO;

    #[test]
    fn verw_for_mds_unless_mds_no() {
        needed(&[intel(0, MD_CLEAR, 0), intel(RTM, MD_CLEAR, TAA_NO)], true);
        needed(
            &[
                intel(0, 0, 0),
                intel(0, MD_CLEAR, MDS_NO),
                intel(RTM, MD_CLEAR, MDS_NO | TAA_NO),
            ],
            false,
        );
    }

    #[test]
    fn verw_for_taa_although_mds_no() {
        let with_tsx_ctrl = |tsx_ctrl| Enumeration {
            tsx_ctrl,
            ..intel(0, MD_CLEAR, MDS_NO | TSX_CTRL)
        };
        needed(
            &[
                intel(RTM, MD_CLEAR, MDS_NO),
                intel(RTM, MD_CLEAR, MDS_NO | TSX_CTRL),
                // Hidden, and works.
                with_tsx_ctrl(0),
            ],
            true,
        );
        needed(
            &[
                with_tsx_ctrl(RTM_DISABLE),
                intel(RTM, MD_CLEAR, MDS_NO | TAA_NO | TSX_CTRL),
                intel(RTM, 0, MDS_NO),
            ],
            false,
        );
    }

    #[test]
    fn verw_for_mmio_stale_data_unless_all_three_ways_are_closed() {
        let safe = MDS_NO | TAA_NO;
        needed(
            &[
                intel(0, 0, safe | FB_CLEAR),
                intel(0, MD_CLEAR, safe | FB_CLEAR | FBSDP_NO | PSDP_NO),
                intel(0, 0, safe | FB_CLEAR | FBSDP_NO | SBDR_SSDP_NO),
                intel(0, 0, safe | FB_CLEAR | PSDP_NO | SBDR_SSDP_NO),
            ],
            true,
        );
        needed(
            &[intel(0, 0, safe | FB_CLEAR | MMIO_NO), intel(0, 0, safe)],
            false,
        );
    }

    #[test]
    fn verw_for_rfds_where_it_clears_register_files() {
        let safe = MDS_NO | TAA_NO | MMIO_NO;
        needed(&[intel(0, 0, safe | RFDS_CLEAR)], true);
        needed(
            &[
                intel(0, 0, safe | RFDS_CLEAR | RFDS_NO),
                intel(0, 0, safe | RFDS_NO),
                intel(0, 0, safe),
            ],
            false,
        );
    }

    #[test]
    fn verw_for_tsa_unless_both_ways_are_closed() {
        needed(
            &[
                amd(0x19, VERW_CLEAR, 0),
                amd(0x19, 0, 0),
                amd(0x19, VERW_CLEAR, TSA_SQ_NO),
                amd(0x19, VERW_CLEAR, TSA_L1_NO),
                // A virtual machine that may move to such a CPU.
                amd(0x17, VERW_CLEAR, 0),
            ],
            true,
        );
        let another_vendors = Enumeration {
            amd: false,
            ..amd(0x19, VERW_CLEAR, 0)
        };
        needed(
            &[
                amd(0x17, 0, 0),
                amd(0x1a, 0, 0),
                amd(0x19, VERW_CLEAR, TSA_SQ_NO | TSA_L1_NO),
                another_vendors,
            ],
            false,
        );
    }

    #[test]
    fn no_verw_where_the_cpu_says_that_nothing_leaks() {
        needed(
            &[
                Enumeration::default(),
                intel(RTM, MD_CLEAR, MDS_NO | TAA_NO | MMIO_NO | RFDS_NO | FB_CLEAR),
            ],
            false,
        );
    }
}
