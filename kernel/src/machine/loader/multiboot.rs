//! Multiboot2 (specification 2.0): the information is one block of tags, which the crate `multiboot2` reads.

use core::ops::Range;

use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};

use super::information::BootInfo;
use crate::machine::direct_map::{DIRECT_MAP, phys_to_virt};

/// What the loader leaves in EAX.
pub const MAGIC: u32 = multiboot2::MAGIC;

/// Bytes in front of a tag's contents: its type and its size.
const TAG_HEADER: u64 = 8;

/// Where something is that the direct map shows.
fn physical<T: ?Sized>(value: &T) -> Range<u64> {
    let start = (&raw const *value).addr() as u64 - DIRECT_MAP;
    start..start + size_of_val(value) as u64
}

/// Reads the tags.
///
/// # Safety
/// As `parse` of [`loader`](crate::machine::loader).
pub unsafe fn parse(address: u64) -> BootInfo {
    let pointer: *const BootInformationHeader = phys_to_virt(address).cast();
    // SAFETY: the caller vouches for the address; the crate checks lengths and alignment.
    let loader = unsafe { BootInformation::load(pointer) };
    let loader = loader.unwrap_or_else(|error| panic!("Multiboot2 information at {address:#x}: {error:?}"));

    let mut info = BootInfo::new();
    let areas = loader.memory_map_tag().expect("Multiboot2 information with a memory map").memory_areas();
    for area in areas.iter().filter(|area| area.typ() == MemoryAreaType::Available) {
        info.add_ram(area.start_address()..area.end_address());
    }
    if let Some(module) = loader.module_tags().next() {
        info.initramfs = module.start_address().into()..module.end_address().into();
    }
    if let Some(Ok(line)) = loader.command_line_tag().map(|tag| tag.cmdline()) {
        info.cmdline = physical(line);
    }
    let rsdp = (loader.rsdp_v2_tag().map(physical)).or_else(|| loader.rsdp_v1_tag().map(physical));
    if let Some(tag) = rsdp {
        info.rsdp = tag.start + TAG_HEADER;
        info.rsdp_copy = tag;
    }
    info
}
