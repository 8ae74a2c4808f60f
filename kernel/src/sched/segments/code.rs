//! The code segment that user code runs in: where its instructions are in memory, and in which mode they are decoded.
//! Whoever reads the instruction that a thread stands at does it here.

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::tables::{USER_CS, USER32_CS};

use crate::machine::descriptor;
use crate::machine::instruction::{Instruction, LONGEST, Mode};
use crate::sched::thread::Thread;

/// A code segment of ring 3.
#[derive(Clone, Copy)]
pub struct CodeSegment {
    base: u64,
    /// The last offset.
    limit: u64,
    /// How its instructions are decoded.
    pub mode: Mode,
}

impl CodeSegment {
    /// The one that the thread's CS names. None if it names none: a debugger may put anything there.
    pub fn of(thread: &Thread, regs: &UserRegs) -> Option<CodeSegment> {
        let flat = |limit, mode| CodeSegment { base: 0, limit, mode };
        match regs.cs() as u16 {
            USER_CS => Some(flat(u64::MAX, Mode::Bits64)),
            USER32_CS => Some(flat(u32::MAX.into(), Mode::Bits32)),
            selector => {
                let entry = crate::sched::segments::descriptor_of(thread, selector);
                Some(CodeSegment {
                    base: descriptor::base(entry),
                    limit: descriptor::limit(entry),
                    mode: descriptor::mode_of_code(entry)?,
                })
            }
        }
    }

    /// The address of an offset. None beyond the limit.
    pub fn linear(&self, offset: u64) -> Option<u64> {
        let offset = self.offset(offset);
        match self.mode {
            Mode::Bits64 => Some(offset),
            _ => (offset <= self.limit).then(|| u64::from(self.base.wrapping_add(offset) as u32)),
        }
    }

    /// As much of an instruction pointer as counts.
    pub fn offset(&self, rip: u64) -> u64 {
        match self.mode {
            Mode::Bits64 => rip,
            Mode::Bits32 => u64::from(rip as u32),
            Mode::Bits16 => u64::from(rip as u16),
        }
    }
}

/// What a thread stands at: an instruction's bytes, as far as they are in the segment and in memory.
pub struct Code {
    bytes: [u8; LONGEST],
    len: usize,
    /// Where they are.
    pub segment: CodeSegment,
}

impl Code {
    /// What a thread that is current, or stopped, stands at.
    pub fn at(thread: &Thread, regs: &UserRegs) -> Option<Code> {
        let segment = CodeSegment::of(thread, regs)?;
        let offset = segment.offset(regs.rip);
        let start = segment.linear(offset)?;
        let room = (segment.limit - offset).saturating_add(1).min(LONGEST as u64) as usize;
        let mut bytes = [0; LONGEST];
        let len = thread.mm().peek(start, &mut bytes[..room]);
        Some(Code { bytes, len, segment })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The instruction.
    pub fn instruction(&self) -> Option<Instruction<'_>> {
        Instruction::decode(self.segment.mode, self.bytes())
    }
}
