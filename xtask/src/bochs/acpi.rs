//! The ACPI tables of Bochs's machine, which say one thing: which processors there are. Layouts: ACPI specification 6.5, sections
//! 5.2.5.3 (RSDP), 5.2.6 (headers), 5.2.7 (RSDT), 5.2.12 (MADT).

/// Where the tables go: memory that the map has as reserved.
pub const ADDRESS: u64 = 0x9_f000;

/// Within that page, behind the RSDP.
const RSDT: usize = 0x40;
const MADT: usize = 0x80;

const LOCAL_APIC: u32 = 0xfee0_0000;

/// The page with the tables of a machine with this number of processors: the RSDP is at its start.
pub fn tables(cpus: u32) -> Vec<u8> {
    const LOCAL_APIC_ENTRY: [u8; 2] = [0, 8];
    const ENABLED: u32 = 1;
    /// There are two 8259s.
    const PCAT_COMPAT: u32 = 1;
    let address = |table: usize| (ADDRESS as u32 + table as u32).to_le_bytes();
    let rsdp = [&b"RSD PTR \0PORTCU\0"[..], &address(RSDT)].concat();
    let mut processors = [LOCAL_APIC.to_le_bytes(), PCAT_COMPAT.to_le_bytes()].concat();
    for id in 0..cpus as u8 {
        processors.extend([&LOCAL_APIC_ENTRY[..], &[id, id], &ENABLED.to_le_bytes()].concat());
    }
    let mut page = with_checksum(rsdp, 8);
    page.resize(RSDT, 0);
    page.extend(table(b"RSDT", 1, &address(MADT)));
    page.resize(MADT, 0);
    page.extend(table(b"APIC", 4, &processors));
    page
}

/// A table with its header.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    const HEADER: usize = 36;
    const CHECKSUM: usize = 9;
    let length = (HEADER + body.len()) as u32;
    let mut table = [&signature[..], &length.to_le_bytes(), &[revision, 0], b"PORTCUPORTCULL"].concat();
    table.resize(HEADER, 0);
    table.extend(body);
    with_checksum(table, CHECKSUM)
}

/// The bytes, whose sum is 0 by the one at `at`.
fn with_checksum(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_has_its_length_and_adds_up_to_nothing() {
        let page = tables(2);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let table = |at: usize| {
            let length = u32::from_le_bytes(page[at + 4..at + 8].try_into().unwrap());
            &page[at..at + length as usize]
        };
        assert_eq!((sum(&page[..20]), sum(table(RSDT)), sum(table(MADT))), (0, 0, 0));
        assert_eq!(page[16..20], (ADDRESS as u32 + RSDT as u32).to_le_bytes());
        assert_eq!(table(RSDT)[36..], (ADDRESS as u32 + MADT as u32).to_le_bytes());
        assert_eq!(table(MADT)[44..], [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0]);
    }
}
