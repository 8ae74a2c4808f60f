//! System calls that are to be user mode's own business (Linux: `PR_SET_SYSCALL_USER_DISPATCH`).
//!
//! A program that runs code made for another kernel asks that system calls made outside one range of its addresses come
//! back to it as SIGSYS. A byte of its memory, the selector, turns that on and off without a call. What is decided is here;
//! how the byte is read and the signal raised is the host's.

/// The selector's value that lets system calls through (`SYSCALL_DISPATCH_FILTER_ALLOW`).
pub const FILTER_ALLOW: u8 = 0;
/// The selector's value that blocks them (`SYSCALL_DISPATCH_FILTER_BLOCK`).
pub const FILTER_BLOCK: u8 = 1;

/// What becomes of a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It is rolled back, and the task gets SIGSYS instead.
    Dispatch,
    /// The selector cannot be read: the task dies of SIGSEGV.
    BadSelectorAddress,
    /// The selector has no meaning: the task dies of SIGSYS.
    BadSelector,
}

/// The addresses from which system calls are always let through. An empty range lets none through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AllowedRange {
    /// The first address.
    pub start: usize,
    /// How many there are.
    pub length: usize,
}

impl AllowedRange {
    /// Whether the address after the system-call instruction is inside.
    #[inline(always)]
    pub const fn contains(self, instruction_pointer: usize) -> bool {
        instruction_pointer.wrapping_sub(self.start) < self.length
    }

    /// Whether a program may ask for it: it neither is empty behind a start nor wraps round.
    pub const fn is_valid(self) -> bool {
        self.start == 0 || self.start.wrapping_add(self.length) > self.start
    }
}

/// What the selector says. `None`: the program named no selector, so all calls outside the range are dispatched;
/// `Some(None)`: its address cannot be read.
pub const fn by_selector(selector: Option<Option<u8>>) -> Verdict {
    match selector {
        None | Some(Some(FILTER_BLOCK)) => Verdict::Dispatch,
        Some(Some(FILTER_ALLOW)) => Verdict::Allow,
        Some(None) => Verdict::BadSelectorAddress,
        Some(Some(_)) => Verdict::BadSelector,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_holds_its_addresses_only() {
        let range = AllowedRange {
            start: 0x1000,
            length: 0x10,
        };
        for (address, inside) in [(0xfff, false), (0x1000, true), (0x100f, true), (0x1010, false)] {
            assert_eq!(range.contains(address), inside, "{address:#x}");
        }
        assert!(!AllowedRange::default().contains(0));
    }

    #[test]
    fn a_range_that_wraps_or_is_empty_is_refused() {
        for (start, length, valid) in [
            (0, 0, true),
            (0, usize::MAX, true),
            (0x1000, 0, false),
            (0x1000, 1, true),
            (usize::MAX, 1, false),
        ] {
            assert_eq!(
                AllowedRange { start, length }.is_valid(),
                valid,
                "{start:#x} {length:#x}"
            );
        }
    }

    #[test]
    fn each_selector_has_its_verdict() {
        assert_eq!(by_selector(None), Verdict::Dispatch);
        assert_eq!(by_selector(Some(None)), Verdict::BadSelectorAddress);
        for byte in 0..=u8::MAX {
            let expected = match byte {
                0 => Verdict::Allow,
                1 => Verdict::Dispatch,
                _ => Verdict::BadSelector,
            };
            assert_eq!(by_selector(Some(Some(byte))), expected, "{byte}");
        }
    }
}
