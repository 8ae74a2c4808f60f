use proptest::prelude::*;

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

/// An instruction that the checker may take: valid codes more often than not, small numbers.
fn likely() -> impl Strategy<Value = Instruction> {
    let code = prop_oneof![
        8 => prop::sample::select(vec![
            0x20u16, 0x00, 0x01, 0x60, 0x61, 0x80, 0x81, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x54, 0x64,
            0x6c, 0x74, 0x84, 0xa4, 0x05, 0x15, 0x1d, 0x25, 0x35, 0x45, 0x06, 0x16, 0x07, 0x87,
        ]),
        1 => any::<u16>(),
    ];
    let k = prop_oneof![4 => 0u32..16, 1 => (0u32..16).prop_map(|word| 4 * word), 1 => any::<u32>()];
    (code, 0u8..4, 0u8..4, k).prop_map(|(code, jump_true, jump_false, k)| Instruction {
        code,
        jump_true,
        jump_false,
        k,
    })
}

proptest! {
    /// Whatever the checker lets through reaches a return: no index is out of range, and the steps are at most the
    /// instructions, as each is looked at once.
    #[test]
    fn what_is_checked_reaches_a_return(program in prop::collection::vec(likely(), 1..12), words: [u32; 16]) {
        let program: Vec<Instruction> = program.into_iter().chain([RETURN_A]).collect();
        if check(&program) {
            let loads = std::cell::Cell::new(0);
            let result = interpret(&program, |word| {
                loads.set(loads.get() + 1);
                words.get(word).copied()
            });
            prop_assert!(result.is_some());
            prop_assert!(loads.get() <= program.len());
            prop_assert_eq!(Some(run(&program, &words)), result);
        }
    }

    /// What is said of all calls with a number is said of each.
    #[test]
    fn what_is_said_of_all_calls_is_said_of_each(program in prop::collection::vec(likely(), 1..12), mut words: [u32; 16]) {
        let program: Vec<Instruction> = program.into_iter().chain([RETURN_A]).collect();
        words[1] = 7;
        if check(&program) && let Some(answer) = run_for_all(&program, words[0], 7) {
            prop_assert_eq!(run(&program, &words), answer);
        }
    }

    /// Eight bytes are one instruction, and back.
    #[test]
    fn any_eight_bytes_are_an_instruction(raw: u64) {
        prop_assert_eq!(Instruction::from_raw(raw).raw(), raw);
    }
}
