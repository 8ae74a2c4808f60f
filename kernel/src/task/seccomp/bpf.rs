//! Classic BPF, as far as seccomp filters may use it: the check before a program is attached, and the interpreter.
//!
//! A checked program only jumps forwards and ends in a return, so it runs at most as many steps as it has instructions.
//! The interpreter still tests every index: a program that was not checked would be refused at run time, not trusted.
//!
//! The rules are those of Linux 6.1 (`bpf_check_classic` and `seccomp_check_filter`); the encoding is that of the BSD
//! packet filter (McCanne and Jacobson, 1993).
//!
//! Uses nothing of the kernel, so that its tests run on the host (in xtask's).

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
mod tests {
    use super::*;

    const fn op(code: u16, k: u32) -> Instruction {
        Instruction { code, jump_true: 0, jump_false: 0, k }
    }

    const fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
        Instruction { code: JMP | code, jump_true, jump_false, k }
    }

    const RETURN_A: Instruction = op(RET | A, 0);

    fn data() -> [u32; 16] {
        core::array::from_fn(|word| 100 + word as u32)
    }

    /// The value of A after the instructions.
    fn value(instructions: &[Instruction]) -> u32 {
        let program = [instructions, &[RETURN_A]].concat();
        assert!(check(&program), "{program:?}");
        run(&program, &data())
    }

    fn refused(instructions: &[Instruction]) -> bool {
        !check(&[instructions, &[RETURN_A]].concat())
    }

    #[test]
    fn raw_and_back() {
        let raw = 0x1234_5678_9a0b_0015;
        let instruction = Instruction::from_raw(raw);
        assert_eq!(instruction.raw(), raw);
        assert_eq!(
            (instruction.code, instruction.jump_true, instruction.jump_false, instruction.k),
            (0x15, 0x0b, 0x9a, 0x1234_5678)
        );
    }

    #[test]
    fn loads() {
        assert_eq!(value(&[op(LD | ABS, 0)]), 100);
        assert_eq!(value(&[op(LD | ABS, 60)]), 115);
        assert_eq!(value(&[op(LD | IMM, 7)]), 7);
        assert_eq!(value(&[op(LD | LEN, 0)]), 64);
        assert_eq!(value(&[op(LDX | LEN, 0), op(MISC | TXA, 0)]), 64);
        assert_eq!(value(&[op(LDX | IMM, 3), op(MISC | TXA, 0)]), 3);
        assert_eq!(value(&[op(LD | IMM, 9), op(ST, 15), op(LDX | MEM, 15), op(LD | IMM, 0), op(MISC | TXA, 0)]), 9);
        assert_eq!(value(&[op(LDX | IMM, 5), op(STX, 0), op(LD | MEM, 0)]), 5);
        assert!(refused(&[op(LD | ABS, 64)]));
        assert!(refused(&[op(LD | ABS, 2)]));
        assert!(refused(&[op(LD | ABS | 0x08, 0)]), "half words");
        assert!(refused(&[op(LD | ABS | 0x10, 0)]), "bytes");
        assert!(refused(&[op(LD | 0x40, 0)]), "relative to X");
        assert!(refused(&[op(LDX | 0xa0, 0)]), "an IP header's length");
        assert!(refused(&[op(ST, 16)]));
        assert!(refused(&[op(0x100, 0)]));
    }

    #[test]
    fn arithmetic() {
        let with = |code: u16, a: u32, k: u32| value(&[op(LD | IMM, a), op(ALU | code, k)]);
        let by_x = |code: u16, a: u32, x: u32| value(&[op(LDX | IMM, x), op(LD | IMM, a), op(ALU | code | X, 0)]);
        for run in [&with as &dyn Fn(u16, u32, u32) -> u32, &by_x] {
            assert_eq!(run(ADD, u32::MAX, 2), 1);
            assert_eq!(run(SUB, 1, 2), u32::MAX);
            assert_eq!(run(MUL, 0x1_0001, 0x1_0001), 0x2_0001);
            assert_eq!(run(DIV, 7, 2), 3);
            assert_eq!(run(AND, 6, 3), 2);
            assert_eq!(run(OR, 6, 3), 7);
            assert_eq!(run(XOR, 6, 3), 5);
            assert_eq!(run(LSH, 3, 31), 1 << 31);
            assert_eq!(run(RSH, 1 << 31, 31), 1);
        }
        assert_eq!(with(NEG, 1, 0), u32::MAX);
        assert_eq!(by_x(LSH, 1, 33), 2, "X counts modulo 32");
        assert_eq!(by_x(DIV, 1, 0), 0, "the program ends");
        assert!(refused(&[op(ALU | DIV, 0)]));
        assert!(refused(&[op(ALU | LSH, 32)]));
        assert!(refused(&[op(ALU | 0x90, 1)]), "modulo is not allowed");
    }

    #[test]
    fn jumps() {
        let taken = |code: u16, a: u32, k: u32| {
            value(&[op(LD | IMM, a), jump(code, k, 0, 2), op(LD | IMM, 1), jump(JA, 1, 0, 0), op(LD | IMM, 0)]) == 1
        };
        for (code, a, k, expected) in [
            (JEQ, 5, 5, true),
            (JEQ, 5, 6, false),
            (JGT, 6, 5, true),
            (JGT, 5, 5, false),
            (JGE, 5, 5, true),
            (JGE, 4, 5, false),
            (JSET, 6, 2, true),
            (JSET, 6, 9, false),
        ] {
            assert_eq!(taken(code, a, k), expected, "{code:#x} {a} {k}");
        }
        assert!(refused(&[jump(JEQ, 0, 1, 0)]), "past the end");
        assert!(refused(&[jump(JEQ, 0, 0, 1)]));
        assert!(refused(&[jump(JA, 1, 0, 0)]));
        assert!(refused(&[jump(JA, u32::MAX, 0, 0)]), "backwards");
        assert!(!check(&[op(LD | IMM, 0)]), "no return");
        assert!(!check(&[]));
        assert!(check(&[op(RET, 0); MAX_INSTRUCTIONS]));
        assert!(!check(&[op(RET, 0); MAX_INSTRUCTIONS + 1]));
    }

    #[test]
    fn memory_is_not_read_before_it_is_written() {
        assert!(refused(&[op(LD | MEM, 0)]));
        assert!(refused(&[op(ST, 1), op(LD | MEM, 0)]));
        // One of the two ways does not write it.
        assert!(refused(&[jump(JEQ, 0, 0, 1), op(ST, 0), op(LD | MEM, 0)]));
        assert!(!refused(&[op(ST, 0), jump(JEQ, 0, 0, 1), op(ST, 1), op(LD | MEM, 0)]));
    }

    #[test]
    fn what_depends_on_number_and_architecture_alone_is_known() {
        let by_number = [op(LD | ABS, 0), jump(JEQ, 39, 0, 1), op(RET, 7), op(RET, 8)];
        assert_eq!(run_for_all(&by_number, 39, 0), Some(7));
        assert_eq!(run_for_all(&by_number, 40, 0), Some(8));
        let by_argument = [op(LD | ABS, 0), jump(JEQ, 39, 0, 1), op(RET, 7), op(LD | ABS, 16), RETURN_A];
        assert_eq!(run_for_all(&by_argument, 39, 0), Some(7));
        assert_eq!(run_for_all(&by_argument, 40, 0), None);
        assert_eq!(run(&by_argument, &data()), 104);
    }

    /// Whatever the check lets through ends, and touches nothing outside: this would panic in a debug build.
    #[test]
    fn random_programs_end() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        let mut attached = 0;
        for _ in 0..200_000 {
            let length = 1 + random() as usize % 6;
            let program: Vec<Instruction> = (0..length)
                .map(|_| Instruction {
                    code: (random() & 0xff) as u16,
                    jump_true: (random() % 3) as u8,
                    jump_false: (random() % 3) as u8,
                    k: (random() % 80) as u32,
                })
                .chain([RETURN_A])
                .collect();
            if check(&program) {
                attached += 1;
                run(&program, &data());
                run_for_all(&program, 1, 2);
            }
        }
        assert!(attached > 1000, "{attached}");
    }
}
