//! `struct user_desc`, and the segment descriptors that it makes (Linux 6.1, `asm/desc.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::machine::instruction::Mode;

/// `struct user_desc`: the same for programs of both widths.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UserDesc {
    /// Which entry of its table.
    pub entry_number: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

/// Set in a selector of the LDT.
pub const LOCAL: u16 = 4;

const SEG_32BIT: u32 = 1;
/// Two bits: data, data that grows down, code, conforming code.
const CONTENTS: u32 = 3 << 1;
const READ_EXEC_ONLY: u32 = 1 << 3;
const LIMIT_IN_PAGES: u32 = 1 << 4;
const SEG_NOT_PRESENT: u32 = 1 << 5;
const USEABLE: u32 = 1 << 6;
const LM: u32 = 1 << 7;
/// The bits that mean something.
const KNOWN: u32 = 0xff;

/// The segment types that `contents` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Data.
    Data,
    /// Data that grows down.
    ExpandDown,
    /// Code.
    Code,
    /// Code that may be entered from an inner ring, too.
    Conforming,
}

// Bits of a descriptor (SDM volume 3, 3.4.5).
const ACCESSED: u64 = 1 << 40;
const WRITABLE_OR_READABLE: u64 = 1 << 41;
const TYPE_SHIFT: u32 = 42;
const CODE_OR_DATA: u64 = 1 << 44;
const RING_3: u64 = 3 << 45;
const PRESENT: u64 = 1 << 47;
const AVAILABLE: u64 = 1 << 52;
const LONG: u64 = 1 << 53;
const DEFAULT_32: u64 = 1 << 54;
const PAGES: u64 = 1 << 55;

impl UserDesc {
    /// An entry that is to be empty, in the form that the ABI has for it.
    pub fn is_empty(&self) -> bool {
        self.base == 0 && self.limit == 0 && self.flags & KNOWN == READ_EXEC_ONLY | SEG_NOT_PRESENT
    }

    /// All zero, which many programs mean to be "no segment". LM does not count, as in Linux.
    pub fn is_zero(&self) -> bool {
        self.base == 0 && self.limit == 0 && self.flags & KNOWN & !LM == 0
    }

    /// Neither base nor limit: "empty" in the oldest form.
    pub fn has_no_extent(&self) -> bool {
        self.base == 0 && self.limit == 0
    }

    /// A descriptor without the bit that software may use.
    pub const fn without_useable(descriptor: u64) -> u64 {
        descriptor & !AVAILABLE
    }

    /// The kind of segment.
    pub fn contents(&self) -> Contents {
        match (self.flags & CONTENTS) >> 1 {
            0 => Contents::Data,
            1 => Contents::ExpandDown,
            2 => Contents::Code,
            _ => Contents::Conforming,
        }
    }

    /// Whether offsets into it are 32 bits wide.
    pub fn is_32bit(&self) -> bool {
        self.flags & SEG_32BIT != 0
    }

    /// Whether it may be loaded.
    pub fn is_present(&self) -> bool {
        self.flags & SEG_NOT_PRESENT == 0
    }

    /// The descriptor: always a code or data segment of ring 3, never one of long mode, which would make a program
    /// 64-bit behind the kernel's back.
    pub fn descriptor(&self) -> u64 {
        let bit = |flag: u32, bit: u64| if self.flags & flag != 0 { bit } else { 0 };
        let not = |flag: u32, bit: u64| if self.flags & flag == 0 { bit } else { 0 };
        let (base, limit) = (u64::from(self.base), u64::from(self.limit));
        limit & 0xffff
            | (base & 0xff_ffff) << 16
            // The CPU would set it at the first use.
            | ACCESSED
            | not(READ_EXEC_ONLY, WRITABLE_OR_READABLE)
            | u64::from((self.flags & CONTENTS) >> 1) << TYPE_SHIFT
            | CODE_OR_DATA
            | RING_3
            | not(SEG_NOT_PRESENT, PRESENT)
            | (limit >> 16 & 0xf) << 48
            | bit(USEABLE, AVAILABLE)
            | bit(SEG_32BIT, DEFAULT_32)
            | bit(LIMIT_IN_PAGES, PAGES)
            | (base >> 24) << 56
    }

    /// What a descriptor says, as `get_thread_area` shows it.
    pub fn of(descriptor: u64, entry_number: u32) -> UserDesc {
        let bit = |bit: u64, flag: u32| if descriptor & bit != 0 { flag } else { 0 };
        let not = |bit: u64, flag: u32| if descriptor & bit == 0 { flag } else { 0 };
        let flags = ((descriptor >> TYPE_SHIFT & 3) as u32) << CONTENTS.trailing_zeros()
            | bit(DEFAULT_32, SEG_32BIT)
            | not(WRITABLE_OR_READABLE, READ_EXEC_ONLY)
            | bit(PAGES, LIMIT_IN_PAGES)
            | not(PRESENT, SEG_NOT_PRESENT)
            | bit(AVAILABLE, USEABLE)
            | bit(LONG, LM);
        UserDesc {
            entry_number,
            base: base(descriptor) as u32,
            limit: (descriptor & 0xffff | (descriptor >> 48 & 0xf) << 16) as u32,
            flags,
        }
    }
}

/// The base of a segment.
pub const fn base(descriptor: u64) -> u64 {
    descriptor >> 16 & 0xff_ffff | (descriptor >> 56) << 24
}

/// The last offset in the segment.
pub const fn limit(descriptor: u64) -> u64 {
    let limit = descriptor & 0xffff | (descriptor >> 48 & 0xf) << 16;
    if descriptor & PAGES != 0 { limit << 12 | 0xfff } else { limit }
}

/// How the instructions of a code segment are decoded; None for one that is not there, or holds no code. Programs make none of
/// long mode.
pub const fn mode_of_code(descriptor: u64) -> Option<Mode> {
    /// The bit of the type that code has and data has not.
    const CODE: u64 = 2 << TYPE_SHIFT;
    if descriptor & (PRESENT | CODE_OR_DATA | CODE | LONG) != PRESENT | CODE_OR_DATA | CODE {
        None
    } else if descriptor & DEFAULT_32 != 0 {
        Some(Mode::Bits32)
    } else {
        Some(Mode::Bits16)
    }
}

#[cfg(test)]
mod tests;
