use proptest::prelude::*;

use super::*;
use crate::memory::USER_END;

fn allowed(mode: u64, start: u64, len: u64, selector: u64) -> Result<Option<AllowedRange>> {
    Config { mode, selector, start, len }.allowed()
}

#[test]
fn what_is_refused() {
    assert_eq!(allowed(0, 0, 0, 0), Ok(None));
    for (start, len, selector) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        assert_eq!(allowed(0, start, len, selector), Err(Errno::EINVAL), "off with {start} {len} {selector}");
    }
    assert_eq!(allowed(1, 0x1000, 0, 0), Err(Errno::EINVAL));
    assert_eq!(allowed(1, 0, 0, 0), Ok(Some(AllowedRange::default())));
    for (start, len) in [(0, 0), (0x1000, 0), (0x1000, u64::MAX), (u64::MAX, 1)] {
        assert_eq!(allowed(2, start, len, 0), Err(Errno::EINVAL), "inclusive from {start:#x}, {len:#x} bytes");
    }
    for mode in [3, 1 << 32, 1 << 32 | 1, u64::MAX] {
        assert_eq!(allowed(mode, 0, 1, 0), Err(Errno::EINVAL), "mode {mode:#x}");
    }
    for mode in [1, 2] {
        assert_eq!(allowed(mode, 0, 1, USER_END), Err(Errno::EFAULT));
        assert!(allowed(mode, 0, 1, USER_END - 1).is_ok());
    }
    // The range is looked at before the selector.
    assert_eq!(allowed(2, 0, 0, USER_END), Err(Errno::EINVAL));
}

proptest! {
    #[test]
    fn inclusive_is_the_opposite_of_exclusive(start: u64, len: u64, from: u64) {
        let (Ok(Some(outside)), Ok(Some(inside))) = (allowed(2, start, len, 0), allowed(1, start, len, 0)) else {
            return Ok(());
        };
        for from in [from, start, start.wrapping_sub(1), start.wrapping_add(len), start.wrapping_add(len).wrapping_sub(1)] {
            prop_assert_ne!(outside.contains(from as usize), inside.contains(from as usize), "{:#x}", from);
        }
    }
}
