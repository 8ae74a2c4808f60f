//! Page tables for user mode, and where their pages come from.
//!
//! ```text
//!   0xffff_ffff_c000_0000   physical 3 GiB to 4 GiB, not cached: the local APIC
//!   0xffff_ffff_8000_0000   physical 0 to 1 GiB, and in it the image
//!   0x0000_0000_0000_0000   an AddressSpace's
//! ```

use core::cell::UnsafeCell;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// Where the kernel sees physical memory: the address of its first byte.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the kernel sees the devices: the address of the first byte of the fourth GiB.
pub(crate) const DEVICES_BASE: u64 = KERNEL_BASE + (1 << 30);
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// The first address beyond the user's half.
const USER_END: u64 = 1 << 47;
/// How many pages there are for page tables and for user mode.
const PAGES: usize = 256;

/// A stack for a CPU or a task.
#[repr(C, align(16))]
pub struct Stack<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: the stack pointer that is made of `end` is all that refers to it.
unsafe impl<const SIZE: usize> Sync for Stack<SIZE> {}

impl<const SIZE: usize> Stack<SIZE> {
    /// An empty one. `SIZE` is a multiple of 16.
    pub const fn new() -> Self {
        const { assert!(SIZE.is_multiple_of(16)) };
        Stack(UnsafeCell::new([0; SIZE]))
    }

    /// Its end, before which the first push goes.
    pub fn end(&self) -> u64 {
        self.0.get() as u64 + SIZE as u64
    }
}

impl<const SIZE: usize> Default for Stack<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

/// The pages, in the image, so that they are mapped and zero.
#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u8; PAGE_SIZE as usize]; PAGES]>);

// SAFETY: each page is given away once.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([[0; PAGE_SIZE as usize]; PAGES]));
static USED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    static portcullis_boot_pgd: PageTable;
    static portcullis_boot_user: u8;
    static portcullis_boot_user_end: u8;
}

/// The physical address of something in the image.
fn physical(address: u64) -> u64 {
    address - KERNEL_BASE
}

struct Frames;

// SAFETY: each frame is given away once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let number = USED.fetch_update(Relaxed, Relaxed, |used| (used < PAGES).then_some(used + 1)).ok()?;
        let address = POOL.0.get() as u64 + number as u64 * PAGE_SIZE;
        Some(PhysFrame::containing_address(PhysAddr::new(physical(address))))
    }
}

fn zeroed_page() -> PhysFrame {
    Frames.allocate_frame().expect("no page is left for user mode")
}

/// The user programs: what is in the section `.user`, padded to whole pages, as the kernel sees it.
pub fn programs() -> &'static [u8] {
    let (start, end) = (&raw const portcullis_boot_user, &raw const portcullis_boot_user_end);
    // SAFETY: the linker script has the section between the two; it is read-only for the kernel and for user mode.
    unsafe { slice::from_raw_parts(start, end as usize - start as usize) }
}

/// An address space: the kernel's half, which all have in common, and a user's.
pub struct AddressSpace {
    pgd: PhysFrame,
}

impl AddressSpace {
    /// One without user memory.
    ///
    /// # Panics
    /// If no page is left, as all functions here.
    #[expect(clippy::new_without_default, reason = "takes a page")]
    pub fn new() -> Self {
        let mut space = AddressSpace { pgd: zeroed_page() };
        // SAFETY: the table is in the image, and not written after the boot.
        let boot = unsafe { &portcullis_boot_pgd };
        space.table()[511] = boot[511].clone();
        space
    }

    fn table(&mut self) -> &mut PageTable {
        let address = KERNEL_BASE + self.pgd.start_address().as_u64();
        // SAFETY: the page is this address space's.
        unsafe { &mut *(address as *mut PageTable) }
    }

    /// Maps the [`programs`] from `address` on, for user mode to read and execute. Whoever loads two address spaces sees the same
    /// pages.
    ///
    /// # Panics
    /// If something is mapped there, or if it is not whole pages in the user's half.
    pub fn map_programs(&mut self, address: u64) -> &mut Self {
        let start = physical(programs().as_ptr() as u64);
        for offset in (0..programs().len() as u64).step_by(PAGE_SIZE as usize) {
            let frame = PhysFrame::containing_address(PhysAddr::new(start + offset));
            self.map(address + offset, frame, PageTableFlags::empty());
        }
        self
    }

    /// Maps new pages of zeros, for user mode to read and write.
    ///
    /// # Panics
    /// As [`map_programs`](Self::map_programs).
    pub fn map_zeroed(&mut self, address: u64, pages: u64) -> &mut Self {
        for page in 0..pages {
            let rights = PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
            self.map(address + page * PAGE_SIZE, zeroed_page(), rights);
        }
        self
    }

    fn map(&mut self, address: u64, frame: PhysFrame, rights: PageTableFlags) {
        assert!(address < USER_END, "{address:#x} is not in the user's half");
        let page = Page::<Size4KiB>::from_start_address(VirtAddr::new(address)).expect("the start of a page");
        let user = PageTableFlags::PRESENT | PageTableFlags::USER_ACCESSIBLE;
        let parents = user | PageTableFlags::WRITABLE;
        // SAFETY: the kernel sees all tables at this offset. The frame is user memory, which no reference of the kernel's goes to
        // but those of `programs`, for which the user has no right to write.
        unsafe {
            let mut tables = OffsetPageTable::new(self.table(), VirtAddr::new(KERNEL_BASE));
            let mapped = tables.map_to_with_table_flags(page, frame, user | rights, parents, &mut Frames);
            mapped.unwrap_or_else(|error| panic!("{address:#x} cannot be mapped: {error:?}")).flush();
        }
    }

    /// This CPU uses it from now on, until it loads another. What it maps is not given back when it is dropped.
    pub fn load(&self) {
        // SAFETY: the kernel's half is the same in all.
        unsafe { Cr3::write(self.pgd, Cr3::read().1) };
    }
}
