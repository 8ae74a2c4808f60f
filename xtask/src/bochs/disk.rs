//! The disk from which the firmware loads: the kernel's segments, the initramfs, and what PVH tells a kernel of its machine.
//!
//! Sector 0 is the list that `rom.S` describes. PVH's structures are those of Xen's public header `arch-x86/hvm/start_info.h`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::Endianness;
use object::elf::{FileHeader64, NoteType, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use super::{Guest, acpi};

const SECTOR: usize = 512;

/// Where sector 0 has the entry point; the list ends before it, by a part without sectors.
const ENTRY: usize = 0x1f8;
const MOST_PARTS: usize = ENTRY / 8 - 1;

/// A cylinder of the geometry that Bochs takes for a disk: an image has whole ones.
const CYLINDER: usize = 16 * 63 * SECTOR;

const PAGE: u64 = 0x1000;

/// Where the page with PVH's structures goes.
const START_INFO: u64 = 0x1_0000;

/// Within that page.
const MODULE: usize = 0x100;
const MEMORY_MAP: usize = 0x140;
const COMMAND_LINE: usize = 0x200;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;

/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const NOTE_ENTRY: NoteType = NoteType(18);

/// The memory map's kinds: E820's.
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Where a PC's memory has its hole for the BIOS and the display.
const LOW_END: u64 = acpi::ADDRESS;
const HIGH_START: u64 = 0x10_0000;

/// Where the hole for devices begins: memory that does not fit below begins at 4 GiB.
const DEVICES: u64 = 0xc000_0000;
const FOUR_GIB: u64 = 1 << 32;

/// What goes to one address of memory.
struct Part {
    address: u64,
    bytes: Vec<u8>,
}

/// Writes the disk's image for a machine.
pub fn write(image: &Path, guest: &Guest) -> Result<()> {
    let Guest { kernel, initrd, append, memory, smp, .. } = *guest;
    let data = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let (mut parts, entry) = segments(&data).with_context(|| {
        format!("Bochs's firmware boots 64-bit ELF files with a PVH entry point; {}", kernel.display())
    })?;
    let mut module = None;
    if let Some(initrd) = initrd {
        let bytes = fs::read(initrd).with_context(|| format!("cannot read {}", initrd.display()))?;
        let length = bytes.len() as u64;
        let kernel_end = parts.iter().map(|part| part.address + part.bytes.len() as u64).max().unwrap_or_default();
        let address = memory.min(DEVICES).checked_sub(length).map(|address| address & !(PAGE - 1));
        let address =
            address.filter(|address| *address >= kernel_end).context("the initramfs does not fit in memory")?;
        module = Some((address, length));
        parts.push(Part { address, bytes });
    }
    parts.push(Part { address: START_INFO, bytes: start_info(module, append, memory)? });
    parts.push(Part { address: acpi::ADDRESS, bytes: acpi::tables(smp) });
    fs::write(image, layout(&parts, entry)?).with_context(|| format!("cannot write {}", image.display()))
}

/// The kernel's segments where they belong, and its PVH entry point.
fn segments(data: &[u8]) -> Result<(Vec<Part>, u32)> {
    let header = FileHeader64::<Endianness>::parse(data).context("it is none")?;
    let endian = header.endian()?;
    let (mut parts, mut entry) = (Vec::new(), None);
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == PT_LOAD {
            let mut bytes = segment.data(endian, data).ok().context("a segment is outside of the file")?.to_vec();
            bytes.resize(segment.p_memsz(endian) as usize, 0);
            parts.push(Part { address: segment.p_paddr(endian), bytes });
        }
        let Some(mut notes) = segment.notes(endian, data)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == b"Xen" && note.n_type(endian) == NOTE_ENTRY {
                let word = note.desc().first_chunk::<4>().context("the entry point's note is too short")?;
                entry = Some(u32::from_le_bytes(*word));
            }
        }
    }
    Ok((parts, entry.context("it has no note with one")?))
}

/// The page with `hvm_start_info` and what it points to.
fn start_info(module: Option<(u64, u64)>, command_line: &str, memory: u64) -> Result<Vec<u8>> {
    let mut page = vec![0; PAGE as usize];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    ensure!(
        command_line.len() < PAGE as usize - COMMAND_LINE,
        "the kernel's command line is longer than {} bytes",
        PAGE as usize - COMMAND_LINE - 1
    );
    put(COMMAND_LINE, command_line.as_bytes());
    let map = memory_map(memory);
    for (index, (start, end, kind)) in map.iter().enumerate() {
        let entry = [&start.to_le_bytes()[..], &(end - start).to_le_bytes(), &u64::from(*kind).to_le_bytes()].concat();
        put(MEMORY_MAP + index * entry.len(), &entry);
    }
    if let Some((address, length)) = module {
        put(MODULE, &[address.to_le_bytes(), length.to_le_bytes()].concat());
    }
    let word = |offset: usize| START_INFO + offset as u64;
    let info = [
        &MAGIC.to_le_bytes()[..],
        &1u32.to_le_bytes(),                        // version
        &0u32.to_le_bytes(),                        // flags
        &u32::from(module.is_some()).to_le_bytes(), // modules
        &word(MODULE).to_le_bytes(),
        &word(COMMAND_LINE).to_le_bytes(),
        &acpi::ADDRESS.to_le_bytes(),
        &word(MEMORY_MAP).to_le_bytes(),
        &(map.len() as u32).to_le_bytes(),
    ]
    .concat();
    put(0, &info);
    Ok(page)
}

/// Start, end and kind of the ranges of a machine's memory.
fn memory_map(memory: u64) -> Vec<(u64, u64, u32)> {
    let below = memory.min(DEVICES);
    let mut map = vec![(0, LOW_END, RAM), (LOW_END, HIGH_START, RESERVED), (HIGH_START, below, RAM)];
    if memory > below {
        map.push((FOUR_GIB, FOUR_GIB + memory - below, RAM));
    }
    map
}

/// The image: the list, then the parts, each from a sector's start.
fn layout(parts: &[Part], entry: u32) -> Result<Vec<u8>> {
    ensure!(parts.len() <= MOST_PARTS, "the kernel has more than {MOST_PARTS} segments");
    let mut image = vec![0; SECTOR];
    for (index, part) in parts.iter().enumerate() {
        let address = u32::try_from(part.address).context("a part of the kernel is above 4 GiB")?;
        let sectors = part.bytes.len().div_ceil(SECTOR);
        image[8 * index..][..4].copy_from_slice(&address.to_le_bytes());
        image[8 * index + 4..][..4].copy_from_slice(&(sectors as u32).to_le_bytes());
        image.extend_from_slice(&part.bytes);
        image.resize(image.len().next_multiple_of(SECTOR), 0);
    }
    image[ENTRY..][..4].copy_from_slice(&entry.to_le_bytes());
    image[ENTRY + 4..][..4].copy_from_slice(&(START_INFO as u32).to_le_bytes());
    image.resize(image.len().next_multiple_of(CYLINDER), 0);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_where_each_part_goes() {
        let parts =
            [Part { address: 0x20_0000, bytes: vec![1; 513] }, Part { address: START_INFO, bytes: vec![2; 512] }];
        let image = layout(&parts, 0x20_1000).unwrap();
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(4), word(8), word(12), word(20)], [0x20_0000, 2, START_INFO as u32, 1, 0]);
        assert_eq!([word(ENTRY), word(ENTRY + 4)], [0x20_1000, START_INFO as u32]);
        assert_eq!((image[SECTOR], image[2 * SECTOR], image[2 * SECTOR + 1], image[3 * SECTOR]), (1, 1, 0, 2));
        assert_eq!(image.len() % CYLINDER, 0);
    }

    #[test]
    fn memory_beyond_the_devices_is_above_4_gib() {
        assert_eq!(memory_map(256 << 20).last(), Some(&(HIGH_START, 256 << 20, RAM)));
        assert_eq!(memory_map(4 << 30).last(), Some(&(FOUR_GIB, 5 << 30, RAM)));
    }

    #[test]
    fn a_command_line_has_its_place() {
        let page = start_info(Some((0x700_0000, 5)), "stdin=stream", 256 << 20).unwrap();
        assert_eq!(page[..4], MAGIC.to_le_bytes());
        assert!(page[COMMAND_LINE..].starts_with(b"stdin=stream\0"));
        assert!(start_info(None, &"x".repeat(4096), 256 << 20).is_err());
    }
}
