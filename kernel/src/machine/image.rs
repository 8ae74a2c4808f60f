//! The kernel's image: where the linker has put its parts.

use core::ops::Range;

/// Where physical address 0 would be in the image's mapping.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

unsafe extern "C" {
    static __image_start: u8;
    static __doors_start: u8;
    static __doors_end: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __boot_stack_guard: u8;
    static __image_end: u8;
}

/// The physical address of something in the image.
pub fn image_phys<T>(object: *const T) -> u64 {
    object as u64 - KERNEL_BASE
}

/// Where the loader put the image.
pub fn image() -> Range<u64> {
    image_phys(&raw const __image_start)..image_phys(&raw const __image_end)
}

/// Whether `address` is in the image's text.
pub fn is_text(address: u64) -> bool {
    (&raw const __image_start as u64..&raw const __text_end as u64).contains(&address)
}

/// Where the text ends and the read-only data begin, as physical address.
pub fn text_end() -> u64 {
    image_phys(&raw const __text_end)
}

/// Where the read-only data end, as physical address.
pub fn rodata_end() -> u64 {
    image_phys(&raw const __rodata_end)
}

/// The page that stays unmapped below the boot stack.
pub fn boot_stack_guard() -> u64 {
    &raw const __boot_stack_guard as u64
}

/// The pages of the doors' code.
pub fn doors() -> Range<u64> {
    &raw const __doors_start as u64..&raw const __doors_end as u64
}
