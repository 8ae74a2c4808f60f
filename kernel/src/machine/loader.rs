//! What the loader tells us: the memory map, the initramfs, the command line, where ACPI's tables are. Two protocols say it in two ways:
//! [`pvh`] (QEMU's `-kernel`, Firecracker, Cloud Hypervisor) and [`multiboot`] (GRUB, Limine).

use core::ops::Range;

use spin::Once;

use super::direct_map::phys_to_virt;

mod information;
mod multiboot;
mod pvh;

pub use information::BootInfo;
pub use multiboot::MAGIC as MULTIBOOT;

static INFO: Once<BootInfo> = Once::new();

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
