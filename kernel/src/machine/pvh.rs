//! What the loader tells us: `hvm_start_info`, the memory map, the initramfs and the command line.
//!
//! Layouts from Xen's public headers (`xen/include/public/arch-x86/hvm/start_info.h`, version 1 of the structure).

use core::ops::Range;

use spin::Once;

use super::direct_map::phys_to_virt;

const MAGIC: u32 = 0x336e_c578;
const MEMMAP_RAM: u32 = 1;
const MAX_REGIONS: usize = 32;

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

/// What the kernel keeps of it. Addresses are physical.
pub struct BootInfo {
    ram: [Range<u64>; MAX_REGIONS],
    ram_len: usize,
    /// The initramfs, empty if there is none.
    pub initramfs: Range<u64>,
    cmdline: Range<u64>,
    /// The address of ACPI's RSDP; 0 where the loader does not say.
    pub rsdp: u64,
}

static INFO: Once<BootInfo> = Once::new();

impl BootInfo {
    /// Usable memory, whole pages, in the loader's order.
    pub fn ram(&self) -> &[Range<u64>] {
        &self.ram[..self.ram_len]
    }

    /// Memory the loader left things in that are needed for good.
    pub fn loaded(&self) -> [Range<u64>; 2] {
        [self.initramfs.clone(), self.cmdline.clone()]
    }
}

/// What the loader said. Panics before `parse`.
pub fn info() -> &'static BootInfo {
    INFO.get().expect("start_info has been read")
}

/// Reads `start_info`.
///
/// # Safety
/// `start_info` is what the loader passed, everything it points to is untouched, and the first GiB is mapped at the
/// direct map (the initramfs itself is not read here: it may be anywhere).
pub unsafe fn parse(start_info: u64) {
    // SAFETY: the caller vouches for the address; the structure is plain data.
    let start = unsafe { phys_to_virt(start_info).cast::<StartInfo>().read_unaligned() };
    assert_eq!(start.magic, MAGIC, "hvm_start_info");
    assert!(start.version >= 1, "hvm_start_info version {} has no memory map", start.version);

    let mut info = BootInfo {
        ram: [const { 0..0 }; MAX_REGIONS],
        ram_len: 0,
        initramfs: 0..0,
        cmdline: start.cmdline_paddr..start.cmdline_paddr,
        rsdp: start.rsdp_paddr,
    };
    for i in 0..start.memmap_entries as usize {
        // SAFETY: the loader's array has `memmap_entries` entries; it need not be aligned.
        let entry = unsafe { phys_to_virt(start.memmap_paddr).cast::<MemmapEntry>().add(i).read_unaligned() };
        let region = entry.addr.next_multiple_of(4096)..(entry.addr + entry.size) & !4095;
        if entry.kind == MEMMAP_RAM && !region.is_empty() && info.ram_len < MAX_REGIONS {
            info.ram[info.ram_len] = region;
            info.ram_len += 1;
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
        info.cmdline.end += line.count_bytes() as u64;
    }
    INFO.call_once(|| info);
}

/// A physical range, through the direct map. Never freed.
fn bytes(range: &Range<u64>) -> &'static [u8] {
    if range.is_empty() {
        return &[];
    }
    // SAFETY: both callers' ranges are reserved for good, and nothing writes to them.
    unsafe { core::slice::from_raw_parts(phys_to_virt(range.start), (range.end - range.start) as usize) }
}

/// The initramfs as the loader left it; empty if there is none.
pub fn initramfs() -> &'static [u8] {
    INFO.get().map_or(&[], |info| bytes(&info.initramfs))
}

/// The command line's words.
pub fn words() -> impl Iterator<Item = &'static str> {
    let line = INFO.get().map_or(&[][..], |info| bytes(&info.cmdline));
    line.split(|&b| b == b' ').filter_map(|word| core::str::from_utf8(word).ok())
}

/// The value of the command line's word `key=value`; the last one counts.
pub fn cmdline(key: &str) -> Option<&'static str> {
    words().filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')).last()
}
