//! The kernel's half of the address space, as it stays.
//!
//! ```text
//! 0xffff888000000000  direct map of all memory    2 MiB pages, data only
//! 0xffffc90000000000  heap                        empty here, filled by `memory`
//! 0xffffc98000000000  stacks                      likewise
//! 0xffffff0000000000  the frames of the way out   one page, read-only, at every 64 KiB of 4 GiB
//!                     to 16-bit stacks
//! 0xffffffff80000000  the image, at + its load    4 KiB pages: text r-x, rodata r--, data rw-
//!                     address (2 MiB)
//! ```
//!
//! The image's text and read-only data are read-only in the direct map too. Every top-level slot that is ever used has
//! its next level from the start, so the kernel's half of every address space is the same for good and is copied once.

use core::ops::Range;

use crate::machine::direct_map::{DIRECT_MAP, ESPFIX, MMIO, phys_to_virt};
use crate::machine::loader::BootInfo;
use crate::machine::{cpu, image};
use crate::memory::{isolation, user_table, vmalloc};

/// Below this there are the firmware, the loader's structures and the trampoline; never given to the allocator.
const LOW_MEMORY: u64 = 1 << 20;
/// What `entry`'s page tables map.
const BOOT_MAPPED: u64 = 1 << 30;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = isolation::GLOBAL.bits();
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const SIZE_4K: u64 = 4 << 10;
const SIZE_2M: u64 = 2 << 20;
const SIZE_512G: u64 = 512 << 30;

/// What is taken when the frame allocator starts: low memory, the image, what the loader left, the frames taken here.
pub fn reserved(info: &BootInfo, tables: Range<u64>) -> [Range<u64>; 6] {
    let [initramfs, cmdline, rsdp] = info.loaded();
    [0..LOW_MEMORY, image::image(), tables, initramfs, cmdline, rsdp]
}

/// Frames for page tables, one after the other from the end of the image.
struct BootFrames<'a> {
    info: &'a BootInfo,
    start: u64,
    next: u64,
}

impl BootFrames<'_> {
    /// A zeroed frame.
    fn alloc(&mut self) -> u64 {
        let frame = self.next..self.next + SIZE_4K;
        let usable = self.info.ram().iter().any(|ram| ram.start <= frame.start && frame.end <= ram.end);
        let taken = self.info.loaded().iter().any(|r| r.start < frame.end && frame.start < r.end);
        assert!(usable && !taken && frame.end <= BOOT_MAPPED, "no memory behind the image at {frame:#x?}");
        self.next = frame.end;
        // SAFETY: nobody else knows this frame, and the boot page tables map it.
        unsafe { phys_to_virt(frame.start).write_bytes(0, SIZE_4K as usize) };
        frame.start
    }
}

struct Builder<'a> {
    frames: BootFrames<'a>,
    pml4: u64,
}

impl Builder<'_> {
    /// The entry that maps `virt` at `level` (1: 4 KiB, 2: 2 MiB, 3: table of 1 GiB), with the tables above it.
    fn entry(&mut self, virt: u64, level: u32) -> *mut u64 {
        let slot = |table: u64, level: u32| {
            let index = virt >> (12 + 9 * (level - 1)) & 511;
            phys_to_virt(table).cast::<u64>().wrapping_add(index as usize)
        };
        let mut table = self.pml4;
        for depth in (level + 1..=4).rev() {
            let entry = slot(table, depth);
            // SAFETY: tables are frames of `frames`, mapped and ours alone until CR3 is loaded.
            unsafe {
                if *entry & PRESENT == 0 {
                    *entry = self.frames.alloc() | PRESENT | WRITABLE;
                }
                assert!(*entry & LARGE == 0, "{virt:#x} is mapped by a large page");
                table = *entry & ADDRESS;
            }
        }
        slot(table, level)
    }

    fn map(&mut self, virt: u64, phys: u64, level: u32, flags: u64) {
        let entry = self.entry(virt, level);
        // SAFETY: as in `entry`.
        unsafe { *entry = phys | flags | PRESENT | GLOBAL | if level == 2 { LARGE } else { 0 } };
    }

    fn image(&mut self) {
        let text_end = image::text_end();
        let rodata_end = image::rodata_end();
        let image = image::image();
        for phys in image.clone().step_by(SIZE_4K as usize) {
            let flags = if phys < text_end {
                0
            } else if phys < rodata_end {
                NO_EXECUTE
            } else {
                WRITABLE | NO_EXECUTE
            };
            let virt = image::KERNEL_BASE + phys;
            let guard = virt == image::boot_stack_guard() || cpu::guards().any(|page| page == virt);
            if !guard {
                self.map(virt, phys, 1, flags);
            }
        }
        // The same rights, but for execution, in the direct map, in the large pages that hold some of the image.
        for phys in (image.start & !(SIZE_2M - 1)..rodata_end.next_multiple_of(SIZE_2M)).step_by(SIZE_4K as usize) {
            let read_only = image.start <= phys && phys < rodata_end;
            self.map(DIRECT_MAP + phys, phys, 1, NO_EXECUTE | if read_only { 0 } else { WRITABLE });
        }
    }

    /// The page of [`cpu::espfix_page`] at every 64 KiB of the 4 GiB at [`ESPFIX`], read-only: all tables of a level
    /// are one.
    fn espfix(&mut self) {
        let phys = image::image_phys(cpu::espfix_page() as *const u8);
        let pages = self.frames.alloc();
        let directory = self.frames.alloc();
        for n in 0..512 {
            // SAFETY: both are frames of `frames`, mapped and ours alone until CR3 is loaded.
            unsafe {
                if n % 16 == 0 {
                    phys_to_virt(pages).cast::<u64>().add(n).write(phys | PRESENT | GLOBAL | NO_EXECUTE);
                }
                phys_to_virt(directory).cast::<u64>().add(n).write(pages | PRESENT);
            }
        }
        for gib in 0..4 {
            let entry = self.entry(ESPFIX + (gib << 30), 3);
            // SAFETY: as above.
            unsafe { *entry = directory | PRESENT };
        }
    }

    /// What user mode's own tables map of the kernel, in the PML4 behind the kernel's.
    fn user_tables(&mut self) {
        let kernel = self.pml4;
        self.pml4 = isolation::user_pgd(kernel);
        for (range, rights) in user_table::shared() {
            for virt in range.step_by(SIZE_4K as usize) {
                self.map(virt, virt - image::KERNEL_BASE, 1, rights.bits());
            }
        }
        let slot = (ESPFIX >> 39 & 511) as usize;
        // SAFETY: both are frames of `frames`, mapped and ours alone until CR3 is loaded.
        unsafe {
            let entry = phys_to_virt(kernel).cast::<u64>().add(slot).read();
            phys_to_virt(self.pml4).cast::<u64>().add(slot).write(entry);
        }
        self.pml4 = kernel;
    }

    fn direct_map(&mut self) {
        let small = image::image().start & !(SIZE_2M - 1)..image::rodata_end().next_multiple_of(SIZE_2M);
        let low = 0..SIZE_2M;
        for ram in core::iter::once(&low).chain(self.frames.info.ram()) {
            for phys in (ram.start & !(SIZE_2M - 1)..ram.end).step_by(SIZE_2M as usize) {
                if !small.contains(&phys) {
                    self.map(DIRECT_MAP + phys, phys, 2, WRITABLE | NO_EXECUTE);
                }
            }
        }
        for phys in MMIO {
            self.map(DIRECT_MAP + phys, phys, 2, WRITABLE | NO_EXECUTE | WRITE_THROUGH | CACHE_DISABLE);
        }
    }
}

/// Builds the kernel's page tables and switches to them. Returns CR3's value and the frames taken.
///
/// # Safety
/// Once, on the boot processor, with `entry`'s page tables in force and nothing allocated yet.
pub unsafe fn init(info: &BootInfo) -> (u64, Range<u64>) {
    let start = image::image().end.next_multiple_of(SIZE_4K);
    let mut frames = BootFrames { info, start, next: start };
    // A loader may put the initramfs right behind the image.
    for _ in info.loaded() {
        for taken in info.loaded() {
            if taken.start < frames.next + SIZE_2M && frames.next < taken.end {
                frames.next = taken.end.next_multiple_of(SIZE_4K);
                frames.start = frames.next;
            }
        }
    }
    // Two of them at a multiple of their size with page-table isolation.
    frames.next = frames.next.next_multiple_of(2 * SIZE_4K);
    let pml4 = frames.alloc();
    if isolation::ON {
        frames.alloc();
    }
    let mut builder = Builder { frames, pml4 };
    builder.image();
    builder.direct_map();
    builder.espfix();
    for region in [vmalloc::HEAP, vmalloc::STACKS] {
        builder.entry(region, 3);
    }
    if isolation::ON {
        builder.user_tables();
    }
    debug_assert!(info.ram().iter().all(|ram| ram.end <= SIZE_512G), "the direct map has one top-level slot here");
    // SAFETY: the new tables map the image and the boot stack where they are.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) pml4, options(nostack, preserves_flags)) };
    (pml4, builder.frames.start..builder.frames.next)
}
