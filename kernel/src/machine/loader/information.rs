//! What the kernel keeps of what the loader says, by whichever protocol.

use core::ops::Range;

const MAX_REGIONS: usize = 32;

/// What the kernel keeps of it. Addresses are physical.
pub struct BootInfo {
    ram: [Range<u64>; MAX_REGIONS],
    ram_len: usize,
    /// The initramfs, empty if there is none.
    pub initramfs: Range<u64>,
    /// The command line, without what ends it.
    pub cmdline: Range<u64>,
    /// The address of ACPI's RSDP; 0 where the loader does not say.
    pub rsdp: u64,
    /// Where the RSDP is a copy of the loader's: that copy.
    pub rsdp_copy: Range<u64>,
}

impl BootInfo {
    /// Nothing.
    pub const fn new() -> BootInfo {
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
    pub fn add_ram(&mut self, region: Range<u64>) {
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
