//! Classic BPF, as far as seccomp filters may use it: the check before a program is attached, and the interpreter.
//!
//! A checked program only jumps forwards and ends in a return, so it runs at most as many steps as it has instructions.
//! The interpreter still tests every index: a program that was not checked would be refused at run time, not trusted.
//!
//! The rules are those of Linux 6.1 (`bpf_check_classic` and `seccomp_check_filter`); the encoding is that of the BSD
//! packet filter (McCanne and Jacobson, 1993).
//!
//! Uses nothing of the kernel.

extern crate alloc;

use alloc::vec;

/// The longest program.
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory.
const MEMORY_WORDS: usize = 16;
/// Bytes of what a filter looks at: `struct seccomp_data`.
pub const DATA_SIZE: u32 = 64;

/// Instruction classes: the low three bits of a code.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
/// Where a load takes its value from. All loads are of 32-bit words, whose size bits are zero.
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
/// The second operand is X and not the constant.
const X: u16 = 0x08;
/// A return's value is A.
const A: u16 = 0x10;
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const XOR: u16 = 0xa0;
const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;
const TAX: u16 = 0x00;
const TXA: u16 = 0x80;

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    code: u16,
    /// How far to jump where the condition is true, and where it is false.
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

impl Instruction {
    /// From its eight bytes in memory.
    pub const fn from_raw(raw: u64) -> Instruction {
        Instruction {
            code: raw as u16,
            jump_true: (raw >> 16) as u8,
            jump_false: (raw >> 24) as u8,
            k: (raw >> 32) as u32,
        }
    }

    /// Its eight bytes in memory.
    pub const fn raw(self) -> u64 {
        self.code as u64 | (self.jump_true as u64) << 16 | (self.jump_false as u64) << 24 | (self.k as u64) << 32
    }
}

/// Whether the program may be attached.
pub fn check(program: &[Instruction]) -> bool {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return false;
    }
    let ends = matches!(program[program.len() - 1].code & 7, RET);
    ends && program.iter().enumerate().all(|(at, instruction)| is_allowed(*instruction, program.len() - at - 1))
        && memory_is_written_before_it_is_read(program)
}

/// Whether the instruction is one of seccomp's, with operands in range. `left`: how many instructions follow it.
fn is_allowed(instruction: Instruction, left: usize) -> bool {
    let Instruction { code, k, .. } = instruction;
    let in_memory = (k as usize) < MEMORY_WORDS;
    let (operation, by_x) = (code & 0xf0, code & X != 0);
    match code & 7 {
        LD => match code & !7 {
            ABS => k < DATA_SIZE && k.is_multiple_of(4),
            IMM | LEN => true,
            MEM => in_memory,
            _ => false,
        },
        LDX => match code & !7 {
            IMM | LEN => true,
            MEM => in_memory,
            _ => false,
        },
        ST | STX => code & !7 == 0 && in_memory,
        ALU if code & !0xff != 0 => false,
        ALU => match operation {
            ADD | SUB | MUL | AND | OR | XOR => true,
            DIV => by_x || k != 0,
            LSH | RSH => by_x || k < 32,
            NEG => !by_x,
            _ => false,
        },
        JMP if code & !0xff != 0 => false,
        JMP => match operation {
            JA => !by_x && (k as usize) < left,
            JEQ | JGT | JGE | JSET => {
                usize::from(instruction.jump_true) < left && usize::from(instruction.jump_false) < left
            }
            _ => false,
        },
        RET => matches!(code & !7, 0 | A),
        MISC => matches!(code & !7, TAX | TXA),
        _ => false,
    }
}

/// Whether no path reads a word of scratch memory that it has not written. Jumps go forwards, so one pass sees all paths:
/// what is written on the way to an instruction is what is written on every way to it.
fn memory_is_written_before_it_is_read(program: &[Instruction]) -> bool {
    /// Nothing leads here yet.
    const ANYTHING: u16 = u16::MAX;
    let mut written_before = vec![ANYTHING; program.len()];
    let mut written: u16 = 0;
    for (at, instruction) in program.iter().enumerate() {
        written &= written_before[at];
        let code = instruction.code;
        let mut reached_from_here = |distance: usize, written: u16| {
            if let Some(before) = written_before.get_mut(at + 1 + distance) {
                *before &= written;
            }
        };
        match code & 7 {
            ST | STX => written |= 1 << (instruction.k % 16),
            LD | LDX if code & !7 == MEM && written & 1 << (instruction.k % 16) == 0 => {
                return false;
            }
            JMP if code & 0xf0 == JA => {
                reached_from_here(instruction.k as usize, written);
                // The next instruction is reached by other jumps only.
                written = ANYTHING;
            }
            JMP => {
                reached_from_here(instruction.jump_true.into(), written);
                reached_from_here(instruction.jump_false.into(), written);
                written = ANYTHING;
            }
            _ => {}
        }
    }
    true
}

/// Runs a checked program over the words of `struct seccomp_data`.
pub fn run(program: &[Instruction], data: &[u32; DATA_SIZE as usize / 4]) -> u32 {
    // Zero kills: what a program that was not checked would get.
    interpret(program, |word| data.get(word).copied()).unwrap_or(0)
}

/// What the program returns for every call with this number on this architecture, if it depends on nothing else.
pub fn run_for_all(program: &[Instruction], number: u32, arch: u32) -> Option<u32> {
    interpret(program, |word| match word {
        0 => Some(number),
        1 => Some(arch),
        _ => None,
    })
}

/// Runs the program with `load` for the words it looks at. None if `load` does not know one.
#[inline(always)]
fn interpret(program: &[Instruction], load: impl Fn(usize) -> Option<u32>) -> Option<u32> {
    let mut a: u32 = 0;
    let mut x: u32 = 0;
    let mut memory = [0u32; MEMORY_WORDS];
    let mut at = 0;
    loop {
        let instruction = *program.get(at)?;
        let Instruction { code, k, .. } = instruction;
        at += 1;
        let operand = if code & X != 0 { x } else { k };
        match code & 7 {
            LD => {
                a = match code & !7 {
                    ABS => load(k as usize / 4)?,
                    IMM => k,
                    LEN => DATA_SIZE,
                    _ => *memory.get(k as usize)?,
                };
            }
            LDX => {
                x = match code & !7 {
                    IMM => k,
                    LEN => DATA_SIZE,
                    _ => *memory.get(k as usize)?,
                };
            }
            ST => *memory.get_mut(k as usize)? = a,
            STX => *memory.get_mut(k as usize)? = x,
            ALU => {
                a = match code & 0xf0 {
                    ADD => a.wrapping_add(operand),
                    SUB => a.wrapping_sub(operand),
                    MUL => a.wrapping_mul(operand),
                    // A division by zero ends the program with zero.
                    DIV => match a.checked_div(operand) {
                        Some(quotient) => quotient,
                        None => return Some(0),
                    },
                    AND => a & operand,
                    OR => a | operand,
                    XOR => a ^ operand,
                    LSH => a.wrapping_shl(operand),
                    RSH => a.wrapping_shr(operand),
                    _ => a.wrapping_neg(),
                };
            }
            JMP => {
                let holds = match code & 0xf0 {
                    JA => {
                        at += k as usize;
                        continue;
                    }
                    JEQ => a == operand,
                    JGT => a > operand,
                    JGE => a >= operand,
                    _ => a & operand != 0,
                };
                at += usize::from(if holds { instruction.jump_true } else { instruction.jump_false });
            }
            RET => return Some(if code & A != 0 { a } else { k }),
            _ if code & !7 == TXA => a = x,
            _ => x = a,
        }
    }
}

#[cfg(test)]
mod tests;
