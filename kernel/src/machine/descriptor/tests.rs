use proptest::prelude::*;

use super::*;

fn desc(base: u32, limit: u32, flags: u32) -> UserDesc {
    UserDesc { entry_number: 0, base, limit, flags }
}

#[test]
fn the_flat_segments_are_those_of_every_linux() {
    // What glibc asks for as a thread's segment: 32-bit, limit in pages, usable. SDM volume 3, figure 3-8.
    let data = desc(0, 0xf_ffff, SEG_32BIT | LIMIT_IN_PAGES | USEABLE).descriptor();
    assert_eq!(data, 0x00df_f300_0000_ffff);
    let code = desc(0, 0xf_ffff, SEG_32BIT | LIMIT_IN_PAGES | 2 << 1).descriptor();
    assert_eq!(code, 0x00cf_fb00_0000_ffff);
}

#[test]
fn base_and_limit_are_scattered_as_the_processor_has_them() {
    let descriptor = desc(0x1234_5678, 0xa_bcde, SEG_32BIT).descriptor();
    assert_eq!((base(descriptor), limit(descriptor)), (0x1234_5678, 0xa_bcde));
    let in_pages = desc(0, 0xa_bcde, SEG_32BIT | LIMIT_IN_PAGES).descriptor();
    assert_eq!(limit(in_pages), 0xabcd_efff);
}

#[test]
fn what_is_empty_has_two_forms() {
    // asm/desc.h: LDT_empty and LDT_zero.
    let empty = desc(0, 0, READ_EXEC_ONLY | SEG_NOT_PRESENT);
    assert!(empty.is_empty() && !empty.is_zero() && empty.has_no_extent());
    let zero = desc(0, 0, 0);
    assert!(zero.is_zero() && !zero.is_empty());
    assert!(
        desc(0, 0, LM).is_zero() && !desc(0, 0, READ_EXEC_ONLY | SEG_NOT_PRESENT | LM).is_empty(),
        "LM counts in one"
    );
    assert!(!desc(0, 1, READ_EXEC_ONLY | SEG_NOT_PRESENT).is_empty());
    assert!(!desc(1, 0, 0).is_zero() && !desc(1, 0, 0).has_no_extent());
    assert!(desc(0, 0, 0xffff_ff00).is_zero(), "bits without a meaning");
}

#[test]
fn only_code_that_is_there_has_a_mode() {
    let mode = |flags: u32| mode_of_code(desc(0, 0xffff, flags).descriptor());
    assert_eq!(mode(SEG_32BIT | 2 << 1), Some(Mode::Bits32));
    assert_eq!(mode(2 << 1), Some(Mode::Bits16));
    assert_eq!(mode(SEG_32BIT | 3 << 1), Some(Mode::Bits32), "conforming");
    assert_eq!(mode(SEG_32BIT), None, "data");
    assert_eq!(mode(SEG_32BIT | 2 << 1 | SEG_NOT_PRESENT), None);
    assert_eq!(mode_of_code(0), None);
    assert_eq!(mode_of_code(0x00af_9b00_0000_ffff), None, "long mode");
}

#[test]
fn contents_are_two_bits() {
    let contents = [0, 1, 2, 3].map(|n| desc(0, 0, n << 1).contents());
    assert_eq!(contents, [Contents::Data, Contents::ExpandDown, Contents::Code, Contents::Conforming]);
}

proptest! {
    /// What set_thread_area takes, get_thread_area gives.
    #[test]
    fn a_description_comes_back_from_its_descriptor(number: u32, base: u32, limit in 0u32..=0xf_ffff, flags in 0u32..0x80) {
        let description = UserDesc { entry_number: number, ..desc(base, limit, flags) };
        prop_assert_eq!(UserDesc::of(description.descriptor(), number), description);
    }

    /// Whatever a program asks for, it gets a code or data segment of ring 3 that is not one of long mode, and the processor
    /// need not write to it.
    #[test]
    fn no_description_makes_a_system_segment_or_a_privileged_one(base: u32, limit: u32, flags: u32) {
        let descriptor = desc(base, limit, flags).descriptor();
        prop_assert_eq!(descriptor >> 45 & 3, 3, "privilege level");
        prop_assert_eq!(descriptor >> 44 & 1, 1, "system segment");
        prop_assert_eq!(descriptor >> 53 & 1, 0, "long mode");
        prop_assert_eq!(descriptor >> 40 & 1, 1, "accessed");
        prop_assert_eq!(descriptor >> 47 & 1 == 1, flags & SEG_NOT_PRESENT == 0);
        prop_assert_eq!(UserDesc::without_useable(descriptor) >> 52 & 1, 0);
    }
}
