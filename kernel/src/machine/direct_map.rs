//! Where things are in the kernel's half of every address space: the direct map of all physical memory, and the frames of the way
//! out to 16-bit stacks.

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// Where the direct map of physical memory begins.
#[cfg(not(any(test, fuzzing)))]
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// Where the frames of the way out to 16-bit stacks are mapped again and again, read-only; 4 GiB.
pub const ESPFIX: u64 = 0xffff_ff00_0000_0000;
/// Where tests of the host have it: a process has no upper half.
#[cfg(any(test, fuzzing))]
pub const DIRECT_MAP: u64 = 0x2000_0000_0000;
/// The registers that are mapped in front of user memory's end: I/O APIC and local APIC, a page each.
pub const MMIO: [u64; 2] = [0xfec0_0000, 0xfee0_0000];

/// Where physical address `phys` is in the direct map.
pub fn phys_to_virt(phys: u64) -> *mut u8 {
    (DIRECT_MAP + phys) as *mut u8
}
