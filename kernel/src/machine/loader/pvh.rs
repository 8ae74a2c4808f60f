//! PVH: `hvm_start_info`.
//!
//! Layouts from Xen's public headers (`xen/include/public/arch-x86/hvm/start_info.h`, version 1 of the structure).

use super::information::BootInfo;
use crate::machine::direct_map::phys_to_virt;

const MAGIC: u32 = 0x336e_c578;
const MEMMAP_RAM: u32 = 1;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modlist_paddr: u64,
    cmdline_paddr: u64,
    rsdp_paddr: u64,
    memmap_paddr: u64,
    memmap_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    paddr: u64,
    size: u64,
    cmdline_paddr: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MemmapEntry {
    addr: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Reads `start_info`.
///
/// # Safety
/// As `parse` of [`loader`](crate::machine::loader).
pub unsafe fn parse(start_info: u64) -> BootInfo {
    // SAFETY: the caller vouches for the address; the structure is plain data.
    let start = unsafe { phys_to_virt(start_info).cast::<StartInfo>().read_unaligned() };
    assert_eq!(start.magic, MAGIC, "hvm_start_info");
    assert!(start.version >= 1, "hvm_start_info version {} has no memory map", start.version);

    let mut info = BootInfo::new();
    info.rsdp = start.rsdp_paddr;
    for i in 0..start.memmap_entries as usize {
        // SAFETY: the loader's array has `memmap_entries` entries; it need not be aligned.
        let entry = unsafe { phys_to_virt(start.memmap_paddr).cast::<MemmapEntry>().add(i).read_unaligned() };
        if entry.kind == MEMMAP_RAM {
            info.add_ram(entry.addr..entry.addr + entry.size);
        }
    }
    if start.nr_modules > 0 {
        // SAFETY: there is a first module.
        let module = unsafe { phys_to_virt(start.modlist_paddr).cast::<Module>().read_unaligned() };
        info.initramfs = module.paddr..module.paddr + module.size;
    }
    if start.cmdline_paddr != 0 {
        // SAFETY: the loader's command line is a NUL-terminated string.
        let line = unsafe { core::ffi::CStr::from_ptr(phys_to_virt(start.cmdline_paddr).cast()) };
        info.cmdline = start.cmdline_paddr..start.cmdline_paddr + line.count_bytes() as u64;
    }
    info
}
