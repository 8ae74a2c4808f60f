//! What the loader tells us: the memory map, the initramfs, the command line, where ACPI's tables are. Two protocols say it in two ways:
//! [`pvh`] (QEMU's `-kernel`, Firecracker, Cloud Hypervisor) and [`multiboot`] (GRUB, Limine).

use core::ops::Range;

use spin::Once;

use super::direct_map::phys_to_virt;

mod multiboot;
mod pvh;

pub use multiboot::MAGIC as MULTIBOOT;

const MAX_REGIONS: usize = 32;

/// What the kernel keeps of it. Addresses are physical.
pub struct BootInfo {
    ram: [Range<u64>; MAX_REGIONS],
    ram_len: usize,
    /// The initramfs, empty if there is none.
    pub initramfs: Range<u64>,
    cmdline: Range<u64>,
    /// The address of ACPI's RSDP; 0 where the loader does not say.
    pub rsdp: u64,
    /// Where the RSDP is a copy of the loader's: that copy.
    rsdp_copy: Range<u64>,
}

static INFO: Once<BootInfo> = Once::new();

impl BootInfo {
    const fn new() -> BootInfo {
        BootInfo {
            ram: [const { 0..0 }; MAX_REGIONS],
            ram_len: 0,
            initramfs: 0..0,
            cmdline: 0..0,
            rsdp: 0,
            rsdp_copy: 0..0,
        }
    }

    /// Adds usable memory, of which whole pages count. What is behind the last of [`MAX_REGIONS`] regions is not used.
    fn add_ram(&mut self, region: Range<u64>) {
        let pages = region.start.next_multiple_of(4096)..region.end & !4095;
        if !pages.is_empty() && self.ram_len < MAX_REGIONS {
            self.ram[self.ram_len] = pages;
            self.ram_len += 1;
        }
    }

    /// Usable memory, whole pages, in the loader's order.
    pub fn ram(&self) -> &[Range<u64>] {
        &self.ram[..self.ram_len]
    }

    /// Memory the loader left things in that are needed for good.
    pub fn loaded(&self) -> [Range<u64>; 3] {
        [self.initramfs.clone(), self.cmdline.clone(), self.rsdp_copy.clone()]
    }
}

/// What the loader said. Panics before `parse`.
pub fn info() -> &'static BootInfo {
    INFO.get().expect("the loader's information has been read")
}

/// Reads what the loader passed: `magic` says by which protocol, [`MULTIBOOT`] or PVH.
///
/// # Safety
/// `address` is what the loader passed, everything it points to is untouched, and the first GiB is mapped at the
/// direct map (the initramfs itself is not read here: it may be anywhere).
pub unsafe fn parse(address: u64, magic: u32) {
    // SAFETY: the caller's.
    let info = unsafe { if magic == MULTIBOOT { multiboot::parse(address) } else { pvh::parse(address) } };
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
