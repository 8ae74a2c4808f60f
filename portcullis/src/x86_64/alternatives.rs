//! Instructions that not every CPU has: the doors hold three-byte NOPs, and where the CPU has SMAP the boot puts CLAC
//! and STAC in their place.
//!
//! The addresses are in the section `portcullis_alternatives`, which is retained; the linker
//! provides `__start_portcullis_alternatives` and `__stop_portcullis_alternatives`.

use super::cpu::{Features, without_write_protection};

/// A place to patch.
#[repr(C)]
struct Site {
    /// The address, relative to this field.
    address: i32,
    /// The last byte of the instruction: CLAC is 0F 01 CA, STAC is 0F 01 CB.
    last_byte: u32,
}

unsafe extern "C" {
    static __start_portcullis_alternatives: [Site; 0];
    static __stop_portcullis_alternatives: [Site; 0];
}

/// Puts in what this CPU has. All CPUs must have the same.
///
/// # Safety
/// Once, at boot, before another CPU runs and before a door is used; kernel mode, interrupts off; the text is mapped.
pub(super) unsafe fn apply(features: Features) {
    if !features.smap {
        return;
    }
    let mut site = (&raw const __start_portcullis_alternatives).cast::<Site>();
    let stop = (&raw const __stop_portcullis_alternatives).cast::<Site>();
    // SAFETY: the linker's symbols bound an array of `Site`, and each names three bytes of text that are a NOP.
    unsafe {
        without_write_protection(|| {
            while site < stop {
                let address = (&raw const (*site).address)
                    .cast::<u8>()
                    .offset((*site).address as isize)
                    .cast_mut();
                address.write_volatile(0x0f);
                address.add(1).write_volatile(0x01);
                address.add(2).write_volatile((*site).last_byte as u8);
                site = site.add(1);
            }
        });
    }
}
