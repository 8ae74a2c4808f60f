//! The two widths of a program, and what they mean for its memory.

use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::layout::{MMAP_BASE, STACK_TOP, USER_END};

/// How wide a program's addresses are: the class of the ELF file that it was started from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// ELF64.
    Bits64,
    /// ELF32, i386.
    Bits32,
}

/// One past the highest address of a 32-bit program (Linux's `IA32_PAGE_OFFSET`).
pub const USER_END_32: u64 = 0xffff_e000;
/// Mappings of 32-bit programs and calls are placed below this address, the highest first (Linux: 128 MiB for the stack).
const MMAP_BASE_32: u64 = USER_END_32 - (128 << 20);
/// Where the search for a gap goes on, upwards, when there is none below (Linux's `TASK_UNMAPPED_BASE`).
const BOTTOM_UP_BASE: u64 = 0x2aaa_aaaa_b000;
const BOTTOM_UP_BASE_32: u64 = 0x5555_5000;

/// Where new mappings may be placed.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// One past the highest address.
    pub end: u64,
    /// Where the search begins, downwards; None: it goes upwards only.
    pub top: Option<u64>,
    /// Where it goes on, or begins, upwards.
    pub bottom: u64,
}

impl Width {
    /// One past the highest address that may be mapped (`TASK_SIZE`).
    pub const fn end(self) -> u64 {
        match self {
            Width::Bits64 => USER_END,
            Width::Bits32 => USER_END_32,
        }
    }

    /// Where the stack of a new program ends.
    pub const fn stack_top(self) -> u64 {
        match self {
            Width::Bits64 => STACK_TOP,
            Width::Bits32 => USER_END_32 - (USER_END - STACK_TOP),
        }
    }

    /// Where a position-independent program goes (as Linux without randomisation: two thirds of the address space, and
    /// 16 MiB above one third).
    pub const fn program_base(self) -> u64 {
        match self {
            Width::Bits64 => 0x5555_5555_4000,
            Width::Bits32 => BOTTOM_UP_BASE_32 + (16 << 20),
        }
    }

    /// Bytes of a pointer, and of a word on the stack of a new program.
    pub const fn word(self) -> usize {
        match self {
            Width::Bits64 => 8,
            Width::Bits32 => 4,
        }
    }

    /// Where a call of this width places mappings.
    pub const fn room(self) -> Room {
        match self {
            Width::Bits64 => Room { end: USER_END, top: Some(MMAP_BASE), bottom: BOTTOM_UP_BASE },
            Width::Bits32 => Room { end: USER_END_32, top: Some(MMAP_BASE_32), bottom: BOTTOM_UP_BASE_32 },
        }
    }
}

const _: () = assert!(USER_END_32.is_multiple_of(PAGE_SIZE) && MMAP_BASE_32.is_multiple_of(PAGE_SIZE));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::layout::page_up;

    #[test]
    fn programs_have_linuxs_room() {
        // arch/x86: TASK_SIZE_MAX, IA32_PAGE_OFFSET, TASK_UNMAPPED_BASE, and ELF_ET_DYN_BASE of 64 bits.
        assert_eq!((Width::Bits64.end(), Width::Bits32.end()), ((1 << 47) - 4096, 0xffff_e000));
        for width in [Width::Bits64, Width::Bits32] {
            assert_eq!(Some(width.room().bottom), page_up(width.end() / 3));
            let top = width.room().top.expect("a search downwards");
            assert!(width.stack_top() < width.end() && top < width.stack_top() && width.room().bottom < top);
            assert!(width.program_base() < top && width.program_base().is_multiple_of(PAGE_SIZE));
        }
        assert_eq!(Width::Bits64.program_base(), (((1 << 47) - 4096) / 3 * 2) & !0xfff);
        assert_eq!((Width::Bits64.word(), Width::Bits32.word()), (8, 4));
    }
}
