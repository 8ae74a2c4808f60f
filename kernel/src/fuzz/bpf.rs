//! Seccomp programs: 64 bytes of data, then instructions of 8.
//!
//! Compared with a second checker and a second interpreter, which are written from Linux's list of codes
//! (`seccomp_check_filter`, 6.1) and the packet filter's paper, and share nothing with the kernel's.

use crate::fuzz::input::Input;
use crate::task::seccomp::bpf::{self, DATA_SIZE, Instruction, MAX_INSTRUCTIONS};
use crate::task::seccomp::data::Data;
use crate::task::seccomp::filter::{Filter, action};
use crate::task::syscall_info::state::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64};

/// Longer programs are not worked out for all numbers: that takes too long for many inputs.
const SHORT: usize = 64;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let data: [u32; DATA_SIZE as usize / 4] = core::array::from_fn(|_| input.u32());
    let code = input.rest();
    let raw: Vec<u64> = code.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let program: Vec<Instruction> = raw.iter().copied().map(Instruction::from_raw).collect();
    let words: Vec<Words> = raw.iter().copied().map(Words::of).collect();
    let accepted = bpf::check(&program);
    assert_eq!(accepted, is_accepted(&words), "the checkers disagree");
    // It ends, whatever it is.
    let verdict = bpf::run(&program, &data);
    if !accepted {
        return;
    }
    let mut looked_beyond = false;
    let expected = interpret(&words, |word| {
        looked_beyond |= word > 1;
        data[word]
    });
    assert_eq!(verdict, expected, "the interpreters disagree");
    let known = bpf::run_for_all(&program, data[0], data[1]);
    assert_eq!(known, (!looked_beyond).then_some(verdict), "what is known in advance");
    if program.len() <= SHORT {
        judged_as_worked_out(program, &data, verdict);
    }
}

/// A number that a filter is known to allow it allows.
fn judged_as_worked_out(program: Vec<Instruction>, words: &[u32; DATA_SIZE as usize / 4], verdict: u32) {
    let filter = Filter::new(program, None).expect("short");
    let wide = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
    let arch = words[1];
    let data =
        Data { number: words[0] as i32, arch, instruction_pointer: wide(2), args: [4, 6, 8, 10, 12, 14].map(wide) };
    assert_eq!(filter.judge(&data).0 == action::ALLOW, (verdict & action::MASK) as i32 >= action::ALLOW as i32);
    if matches!(arch, AUDIT_ARCH_X86_64 | AUDIT_ARCH_I386) && filter.allows(data.number, arch) {
        assert_eq!(verdict, action::ALLOW);
    }
}

/// An instruction's fields.
#[derive(Clone, Copy)]
struct Words {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Words {
    fn of(raw: u64) -> Words {
        let [c0, c1, jt, jf, k @ ..] = raw.to_le_bytes();
        Words { code: u16::from_le_bytes([c0, c1]), jt, jf, k: u32::from_le_bytes(k) }
    }

    /// Where it may go on, as distances from the next instruction. A return's next instruction counts, as in Linux.
    fn targets(self) -> Vec<usize> {
        match self.code {
            0x05 => vec![self.k as usize],
            _ if self.code & 7 == 5 => vec![self.jt.into(), self.jf.into()],
            _ => vec![0],
        }
    }
}

/// The codes that seccomp takes.
const CODES: [u16; 41] = [
    0x20, 0x80, 0x81, 0x06, 0x16, // loads of data and of its length, returns
    0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x54, 0x5c, 0x44, 0x4c, 0xa4, 0xac, 0x64, 0x6c, 0x74, 0x7c, 0x84,
    0x00, 0x01, 0x07, 0x87, 0x60, 0x61, 0x02, 0x03, // constants, moves, scratch memory
    0x05, 0x15, 0x1d, 0x35, 0x3d, 0x25, 0x2d, 0x45, 0x4d, // jumps
];

fn is_accepted(program: &[Words]) -> bool {
    if !(1..=MAX_INSTRUCTIONS).contains(&program.len()) || !matches!(program[program.len() - 1].code, 0x06 | 0x16) {
        return false;
    }
    let in_range = program.iter().enumerate().all(|(at, word)| {
        let k_fits = match word.code {
            0x20 => word.k < 64 && word.k % 4 == 0,
            0x60 | 0x61 | 0x02 | 0x03 => word.k < 16,
            0x34 => word.k != 0,
            0x64 | 0x74 => word.k < 32,
            _ => true,
        };
        CODES.contains(&word.code)
            && k_fits
            && word.targets().iter().all(|target| at + 1 + target < program.len() || word.code & 7 == 6)
    });
    in_range && (0..16).all(|word| !is_read_unwritten(program, word))
}

/// Whether a path from the start reads a word of scratch memory before it writes it.
fn is_read_unwritten(program: &[Words], word: u32) -> bool {
    let mut reached = vec![false; program.len() + 1];
    reached[0] = true;
    for (at, instruction) in program.iter().enumerate() {
        if !reached[at] {
            continue;
        }
        match instruction.code {
            0x60 | 0x61 if instruction.k == word => return true,
            0x02 | 0x03 if instruction.k == word => {}
            _ => instruction.targets().iter().for_each(|target| reached[at + 1 + target] = true),
        }
    }
    false
}

/// Runs an accepted program.
fn interpret(program: &[Words], mut load: impl FnMut(usize) -> u32) -> u32 {
    let (mut a, mut x, mut scratch) = (0u64, 0u64, [0u64; 16]);
    let mut at = 0;
    for _step in 0..=program.len() {
        let Words { code, jt, jf, k } = program[at];
        let (slot, k) = (k as usize, u64::from(k));
        let by = if code & 8 == 0 { k } else { x };
        let goes = |condition: bool| usize::from(if condition { jt } else { jf });
        at += 1;
        match code {
            0x06 => return k as u32,
            0x16 => return a as u32,
            0x20 => a = load(slot / 4).into(),
            0x80 => a = 64,
            0x81 => x = 64,
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = scratch[slot],
            0x61 => x = scratch[slot],
            0x02 => scratch[slot] = a,
            0x03 => scratch[slot] = x,
            0x07 => x = a,
            0x87 => a = x,
            0x04 | 0x0c => a += by,
            0x14 | 0x1c => a = a + (1 << 32) - by,
            0x24 | 0x2c => a *= by,
            0x34 | 0x3c if by == 0 => return 0,
            0x34 | 0x3c => a /= by,
            0x54 | 0x5c => a &= by,
            0x44 | 0x4c => a |= by,
            0xa4 | 0xac => a ^= by,
            0x64 | 0x6c => a <<= by % 32,
            0x74 | 0x7c => a >>= by % 32,
            0x84 => a = (1 << 32) - a,
            0x05 => at += slot,
            0x15 | 0x1d => at += goes(a == by),
            0x25 | 0x2d => at += goes(a > by),
            0x35 | 0x3d => at += goes(a >= by),
            0x45 | 0x4d => at += goes(a & by != 0),
            _ => unreachable!("{code:#x} was accepted"),
        }
        a &= 0xffff_ffff;
    }
    panic!("more steps than instructions")
}
