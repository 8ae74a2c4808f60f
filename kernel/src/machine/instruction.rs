//! User instructions as bytes: prefixes, opcode, ModRM operand. As much of the encoding (SDM volume 2, chapter 2) as the
//! kernel asks about, in the mode of the code segment that they are run in. No bytes of the instruction are taken for
//! granted: what is cut off or longer than 15 bytes is none.

/// The longest instruction.
pub const LONGEST: usize = 15;

/// What the code segment says: 64-bit (L), or its default size (D).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// D clear.
    Bits16,
    /// D set.
    Bits32,
    /// L set.
    Bits64,
}

/// Segment registers as prefixes name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentRegister {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}
use SegmentRegister::*;

/// An instruction up to its opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction<'a> {
    /// The mode it was decoded in.
    pub mode: Mode,
    /// What the last segment prefix says.
    segment: Option<SegmentRegister>,
    /// Whether several do, and not the same.
    pub names_segments: bool,
    operand_size: bool,
    address_size: bool,
    /// REP or REPNE.
    pub repeats: bool,
    rex: u8,
    /// The opcode: one byte, or 0x0f00 and the second.
    pub opcode: u16,
    /// How many bytes come before the ModRM byte or the immediate.
    head: usize,
    code: &'a [u8],
}

/// What a ModRM byte names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A general register, 0 (RAX) to 15.
    Register(u8),
    /// Memory.
    Memory(Address),
}

/// An address as an instruction has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The segment that its offset is in.
    pub segment: SegmentRegister,
    /// Relative to the next instruction.
    pub relative: bool,
    /// A register that is added.
    pub base: Option<u8>,
    /// Another, times this.
    pub index: Option<(u8, u8)>,
    /// What is added to them.
    pub displacement: i32,
    /// Bytes of the sum that count: 2, 4 or 8.
    pub size: u8,
}

/// An instruction's ModRM byte and what follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModRm {
    /// The middle field, which extends some opcodes. Without REX.R.
    pub extension: u8,
    /// The operand.
    pub operand: Operand,
    /// Bytes of the instruction up to the end of the operand.
    pub end: usize,
}

impl<'a> Instruction<'a> {
    /// Decodes the first instruction of `code`. None if it is cut off.
    pub fn decode(mode: Mode, code: &'a [u8]) -> Option<Instruction<'a>> {
        let code = code.get(..LONGEST).unwrap_or(code);
        let mut this = Instruction {
            mode,
            segment: None,
            names_segments: false,
            operand_size: false,
            address_size: false,
            repeats: false,
            rex: 0,
            opcode: 0,
            head: 0,
            code,
        };
        loop {
            let byte = *code.get(this.head)?;
            this.head += 1;
            match byte {
                0x26 => this.name_segment(Es),
                0x2e => this.name_segment(Cs),
                0x36 => this.name_segment(Ss),
                0x3e => this.name_segment(Ds),
                0x64 => this.name_segment(Fs),
                0x65 => this.name_segment(Gs),
                0x66 => this.operand_size = true,
                0x67 => this.address_size = true,
                0xf2 | 0xf3 => this.repeats = true,
                0xf0 => {}
                0x40..=0x4f if mode == Mode::Bits64 => {
                    // It counts only in front of the opcode.
                    this.rex = byte;
                    continue;
                }
                0x0f => {
                    this.opcode = 0x0f00 | u16::from(*code.get(this.head)?);
                    this.head += 1;
                    return Some(this);
                }
                byte => {
                    this.opcode = byte.into();
                    return Some(this);
                }
            }
            this.rex = 0;
        }
    }

    fn name_segment(&mut self, segment: SegmentRegister) {
        let before = self.segment.replace(segment);
        self.names_segments |= before.is_some_and(|before| before != segment);
    }

    /// Whether it has a prefix.
    pub fn has_prefix(&self) -> bool {
        self.head != if self.opcode > 0xff { 2 } else { 1 }
    }

    /// Bytes of an operand: 2, 4 or 8.
    pub fn operand_bytes(&self) -> usize {
        match (self.mode, self.operand_size) {
            (Mode::Bits64, _) if self.rex & 8 != 0 => 8,
            (Mode::Bits16, false) | (Mode::Bits32 | Mode::Bits64, true) => 2,
            _ => 4,
        }
    }

    /// Bytes of an address: 2, 4 or 8.
    fn address_bytes(&self) -> u8 {
        match (self.mode, self.address_size) {
            (Mode::Bits64, false) => 8,
            (Mode::Bits64, true) | (Mode::Bits32, false) | (Mode::Bits16, true) => 4,
            (Mode::Bits32, true) | (Mode::Bits16, false) => 2,
        }
    }

    /// The ModRM byte after the opcode, of an instruction that has one.
    pub fn modrm(&self) -> Option<ModRm> {
        let byte = *self.code.get(self.head)?;
        let (kind, extension, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let mut end = self.head + 1;
        let operand = if kind == 3 {
            Operand::Register(rm | (self.rex & 1) << 3)
        } else if self.address_bytes() == 2 {
            Operand::Memory(self.address_16(kind, rm, &mut end)?)
        } else {
            Operand::Memory(self.address_32(kind, rm, &mut end)?)
        };
        Some(ModRm { extension, operand, end })
    }

    /// The displacement of a ModRM byte's kind.
    fn displacement(&self, bytes: usize, end: &mut usize) -> Option<i32> {
        let field = self.code.get(*end..*end + bytes)?;
        *end += bytes;
        Some(match *field {
            [] => 0,
            [byte] => i32::from(byte as i8),
            [low, high] => i32::from(i16::from_le_bytes([low, high])),
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
            _ => return None,
        })
    }

    fn address_16(&self, kind: u8, rm: u8, end: &mut usize) -> Option<Address> {
        const BX: u8 = 3;
        const BP: u8 = 5;
        const SI: u8 = 6;
        const DI: u8 = 7;
        let absolute = kind == 0 && rm == 6;
        let (base, index) = match rm {
            0 => (Some(BX), Some(SI)),
            1 => (Some(BX), Some(DI)),
            2 => (Some(BP), Some(SI)),
            3 => (Some(BP), Some(DI)),
            4 => (Some(SI), None),
            5 => (Some(DI), None),
            6 if absolute => (None, None),
            6 => (Some(BP), None),
            _ => (Some(BX), None),
        };
        let bytes = if absolute { 2 } else { usize::from(kind) };
        Some(Address {
            segment: self.segment_for(base == Some(BP)),
            relative: false,
            base,
            index: index.map(|index| (index, 1)),
            displacement: self.displacement(bytes, end)?,
            size: 2,
        })
    }

    fn address_32(&self, kind: u8, rm: u8, end: &mut usize) -> Option<Address> {
        const SP: u8 = 4;
        const BP: u8 = 5;
        let (mut base, mut index) = (Some(rm | (self.rex & 1) << 3), None);
        let mut bytes = [0, 1, 4][usize::from(kind)];
        let mut relative = false;
        let mut low = rm;
        if rm == 4 {
            let sib = *self.code.get(*end)?;
            *end += 1;
            low = sib & 7;
            base = Some(low | (self.rex & 1) << 3);
            let register = sib >> 3 & 7 | (self.rex & 2) << 2;
            index = (register != SP).then_some((register, 1 << (sib >> 6)));
        } else if rm == 5 && kind == 0 {
            (base, bytes) = (None, 4);
            relative = self.mode == Mode::Bits64;
        }
        if rm == 4 && low == 5 && kind == 0 {
            (base, bytes) = (None, 4);
        }
        Some(Address {
            segment: self.segment_for(matches!(base, Some(SP | BP))),
            relative,
            base,
            index,
            displacement: self.displacement(bytes, end)?,
            size: self.address_bytes(),
        })
    }

    /// In 64-bit code only FS and GS are segments.
    fn segment_for(&self, stack: bool) -> SegmentRegister {
        match self.segment {
            Some(segment @ (Fs | Gs)) => segment,
            Some(segment) if self.mode != Mode::Bits64 => segment,
            _ if stack => Ss,
            _ => Ds,
        }
    }

    /// Whether it loads the flags (POPF, IRET), so that TF is the program's afterwards.
    pub fn loads_flags(&self) -> bool {
        matches!(self.opcode, 0x9d | 0xcf)
    }

    /// Whether it may be run with the trap flag set without the flag, or the task's registers, being seen by others: not
    /// system calls, and nothing that reads or replaces the flags, raises an exception of its own, or keeps the trap away.
    pub fn may_be_stepped(&self) -> bool {
        !matches!(
            self.opcode,
            // SYSCALL, SYSENTER; PUSHF, POPF, INT3, INT, INTO, IRET, ICEBP, HLT, MOV and POP to a segment (SS among them).
            0x0f05 | 0x0f34 | 0x9c | 0x9d | 0xcc..=0xcf | 0xf1 | 0xf4 | 0x8e | 0x17
        )
    }

    /// Whether it is a string instruction that repeats: it traps after each round, with the instruction pointer on it.
    pub fn is_repeated(&self) -> bool {
        self.repeats && matches!(self.opcode, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf)
    }
}

impl Address {
    /// The offset in its segment. `register` gives the value of a general register, `next` is the address of the next
    /// instruction.
    pub fn offset(&self, next: u64, register: impl Fn(u8) -> u64) -> u64 {
        let mut sum = self.displacement as i64 as u64;
        if self.relative {
            sum = sum.wrapping_add(next);
        }
        if let Some(base) = self.base {
            sum = sum.wrapping_add(register(base));
        }
        if let Some((index, scale)) = self.index {
            sum = sum.wrapping_add(register(index).wrapping_mul(scale.into()));
        }
        match self.size {
            2 => u64::from(sum as u16),
            4 => u64::from(sum as u32),
            _ => sum,
        }
    }
}

#[cfg(test)]
mod tests;
