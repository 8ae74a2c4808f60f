//! System calls that a program emulates itself (Linux: `PR_SET_SYSCALL_USER_DISPATCH`).
//!
//! A program that runs code made for another kernel asks to get system calls from outside one range of its addresses back as
//! SIGSYS. A byte of its memory, the selector, turns that on and off. The decision is here; the host reads the byte and raises the
//! signal.

/// The selector's value that lets system calls through (`SYSCALL_DISPATCH_FILTER_ALLOW`).
pub const FILTER_ALLOW: u8 = 0;
/// The selector's value that blocks them (`SYSCALL_DISPATCH_FILTER_BLOCK`).
pub const FILTER_BLOCK: u8 = 1;

/// What becomes of a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is made.
    Allow,
    /// It is rolled back, and the task gets SIGSYS instead.
    Dispatch,
    /// The selector cannot be read: the task dies of SIGSEGV.
    BadSelectorAddress,
    /// The selector has no meaning: the task dies of SIGSYS.
    BadSelector,
}

/// The addresses from which system calls are let through whatever the selector says.
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

    /// Whether a program may ask for it: it does not wrap around, and if it is empty its start is 0.
    pub const fn is_valid(self) -> bool {
        self.start == 0 || self.start.wrapping_add(self.length) > self.start
    }

    /// All other addresses: what is let through where a program asks to have calls dispatched *from* this range
    /// (`PR_SYS_DISPATCH_INCLUSIVE_ON`, Linux 6.17). `None` if the range is empty or wraps around.
    pub const fn inverted(self) -> Option<AllowedRange> {
        let end = self.start.wrapping_add(self.length);
        if end <= self.start {
            return None;
        }
        Some(AllowedRange { start: end, length: self.length.wrapping_neg() })
    }
}

/// The verdict on a call from outside the range. `None`: the program has no selector, and the call is dispatched; `Some(None)`:
/// the selector cannot be read.
pub const fn by_selector(selector: Option<Option<u8>>) -> Decision {
    match selector {
        None | Some(Some(FILTER_BLOCK)) => Decision::Dispatch,
        Some(Some(FILTER_ALLOW)) => Decision::Allow,
        Some(None) => Decision::BadSelectorAddress,
        Some(Some(_)) => Decision::BadSelector,
    }
}
