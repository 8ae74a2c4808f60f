use super::capability::*;
use super::*;

/// An Intel CPU: what CPUID 7 says in EBX and EDX, and its capabilities.
fn intel(seven_ebx: u32, seven_edx: u32, capabilities: u64) -> Enumeration {
    Enumeration { signature: 0x506e3, seven_ebx, seven_edx, capabilities, ..Enumeration::default() }
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
    needed(&[intel(0, 0, 0), intel(0, MD_CLEAR, MDS_NO), intel(RTM, MD_CLEAR, MDS_NO | TAA_NO)], false);
}

#[test]
fn verw_for_taa_although_mds_no() {
    let with_tsx_ctrl = |tsx_ctrl| Enumeration { tsx_ctrl, ..intel(0, MD_CLEAR, MDS_NO | TSX_CTRL) };
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
        &[with_tsx_ctrl(RTM_DISABLE), intel(RTM, MD_CLEAR, MDS_NO | TAA_NO | TSX_CTRL), intel(RTM, 0, MDS_NO)],
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
    needed(&[intel(0, 0, safe | FB_CLEAR | MMIO_NO), intel(0, 0, safe)], false);
}

#[test]
fn verw_for_rfds_where_it_clears_register_files() {
    let safe = MDS_NO | TAA_NO | MMIO_NO;
    needed(&[intel(0, 0, safe | RFDS_CLEAR)], true);
    needed(&[intel(0, 0, safe | RFDS_CLEAR | RFDS_NO), intel(0, 0, safe | RFDS_NO), intel(0, 0, safe)], false);
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
    let another_vendors = Enumeration { amd: false, ..amd(0x19, VERW_CLEAR, 0) };
    needed(&[amd(0x17, 0, 0), amd(0x1a, 0, 0), amd(0x19, VERW_CLEAR, TSA_SQ_NO | TSA_L1_NO), another_vendors], false);
}

#[test]
fn no_verw_where_the_cpu_says_that_nothing_leaks() {
    needed(&[Enumeration::default(), intel(RTM, MD_CLEAR, MDS_NO | TAA_NO | MMIO_NO | RFDS_NO | FB_CLEAR)], false);
}
