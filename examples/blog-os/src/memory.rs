//! Page tables and frames, as the tutorial has them.

use bootloader_api::info::{MemoryRegionKind, MemoryRegions};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{FrameAllocator, OffsetPageTable, PageTable, PhysFrame, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

/// The page table in use.
///
/// # Safety
/// All of physical memory is mapped at `offset`. To be called once.
pub unsafe fn init(offset: VirtAddr) -> OffsetPageTable<'static> {
    let table = offset + Cr3::read().0.start_address().as_u64();
    // SAFETY: the caller's.
    unsafe { OffsetPageTable::new(&mut *table.as_mut_ptr::<PageTable>(), offset) }
}

/// Gives the frames that the bootloader has found unused, one after the other.
pub struct BootInfoFrameAllocator {
    regions: &'static MemoryRegions,
    next: usize,
}

impl BootInfoFrameAllocator {
    /// # Safety
    /// What the regions call usable is not used. To be called once.
    pub unsafe fn new(regions: &'static MemoryRegions) -> Self {
        BootInfoFrameAllocator { regions, next: 0 }
    }
}

// SAFETY: each frame is given once.
unsafe impl FrameAllocator<Size4KiB> for BootInfoFrameAllocator {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let usable = self.regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable);
        let mut addresses = usable.flat_map(|region| (region.start..region.end).step_by(4096));
        let address = addresses.nth(self.next)?;
        self.next += 1;
        Some(PhysFrame::containing_address(PhysAddr::new(address)))
    }
}
