//! The tables of `user_dispatch`.

use portcullis_linux_abi::user_dispatch::*;

#[test]
fn the_range_holds_its_addresses_only() {
    let range = AllowedRange { start: 0x1000, length: 0x10 };
    for (address, inside) in [(0xfff, false), (0x1000, true), (0x100f, true), (0x1010, false)] {
        assert_eq!(range.contains(address), inside, "{address:#x}");
    }
    assert!(!AllowedRange::default().contains(0));
}

#[test]
fn a_range_that_wraps_or_is_empty_is_refused() {
    for (start, length, valid) in
        [(0, 0, true), (0, usize::MAX, true), (0x1000, 0, false), (0x1000, 1, true), (usize::MAX, 1, false)]
    {
        assert_eq!(AllowedRange { start, length }.is_valid(), valid, "{start:#x} {length:#x}");
    }
}

#[test]
fn each_selector_has_its_verdict() {
    assert_eq!(by_selector(None), Decision::Dispatch);
    assert_eq!(by_selector(Some(None)), Decision::BadSelectorAddress);
    for byte in 0..=u8::MAX {
        let expected = match byte {
            0 => Decision::Allow,
            1 => Decision::Dispatch,
            _ => Decision::BadSelector,
        };
        assert_eq!(by_selector(Some(Some(byte))), expected, "{byte}");
    }
}

#[test]
fn the_inverted_range_holds_the_other_addresses() {
    for (start, length) in [(0, 1), (0, usize::MAX), (0x1000, 0x10), (1, usize::MAX - 1), (usize::MAX - 1, 1)] {
        let range = AllowedRange { start, length };
        let inverted = range.inverted().unwrap();
        let end = start + length;
        for address in
            [0, 1, 0x1234, start, start.wrapping_sub(1), end, end.wrapping_sub(1), usize::MAX / 2, usize::MAX]
        {
            assert_ne!(range.contains(address), inverted.contains(address), "{address:#x} of {start:#x} {length:#x}");
        }
    }
}

#[test]
fn an_empty_or_wrapping_range_is_not_inverted() {
    for (start, length) in [(0, 0), (0x1000, 0), (usize::MAX, 1), (0x1000, usize::MAX), (usize::MAX, usize::MAX)] {
        assert_eq!(AllowedRange { start, length }.inverted(), None, "{start:#x} {length:#x}");
    }
}
